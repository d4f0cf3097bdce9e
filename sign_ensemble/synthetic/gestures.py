"""Hand shapes that are no label: digits, horns, thumbs-up, and random ones far from every label.

Digits 3, 4, 5, 7 and 8 as in ASL; 6 looks like W, 9 like F, 0 like O, 1 like D, 2 like V.
"""

from __future__ import annotations

import numpy as np

from sign_ensemble.synthetic.alphabet import ACROSS, INDEX, LITTLE, MIDDLE, POSES, RING, Pose
from sign_ensemble.synthetic.kinematics import THUMB_LIMITS
from sign_ensemble.synthetic.thumb_contact import Contact

FAR = 27.0  # degrees, root mean square; see finger_difference
OUT = (62, 10, 0, -5, -5)  # thumb away from the hand

GESTURES: dict[str, Pose] = {
    # Thumb, index and middle finger out, spread; the rest folded.
    "three": Pose(((0, 10, 2), (0, -8, 2), RING, LITTLE), OUT),
    # Four fingers up, spread; thumb across the palm.
    "four": Pose(
        ((0, 14, 2), (0, 4, 2), (0, -6, 2), (0, -16, 2)),
        (10, 35, 45, 45, 40),
        Contact("ring", 0, -0.15, "palmar", 2),
    ),
    # All five fingers out, spread.
    "five": Pose(((0, 14, 2), (0, 4, 2), (0, -6, 2), (0, -18, 2)), OUT),
    # Ring finger and thumb touch; the others up, spread.
    "seven": Pose(
        ((0, 12, 2), (0, 2, 2), (58, -4, 64), (2, -16, 4)),
        (10, 55, 60, 10, 30),
        Contact("ring", 2, 0.9, "palmar", -1),
    ),
    # Middle finger and thumb touch; the others up, spread.
    "eight": Pose(
        ((0, 12, 2), (58, 0, 62), (2, -8, 2), (2, -17, 4)),
        (15, 52, 55, 8, 25),
        Contact("middle", 2, 0.9, "palmar", -1),
    ),
    # Index and little finger up, the two between folded under the thumb.
    "horns": Pose(
        ((0, 6, 2), MIDDLE, RING, (0, -8, 2)), ACROSS, Contact("middle", 1, 0.85, "dorsal")
    ),
    # Fist on its side, thumb up.
    "thumbs-up": Pose(
        (INDEX, MIDDLE, RING, LITTLE), (62, 10, 0, -10, -12), orientation=(-25, 0, 70)
    ),
    # Index finger straight down, the rest a fist.
    "pointing-down": Pose(
        ((0, 0, 2), MIDDLE, RING, LITTLE),
        ACROSS,
        Contact("middle", 1, 0.85, "dorsal"),
        orientation=(160, 0, 178),
    ),
    # A hand at rest: all fingers a little bent.
    "relaxed": Pose(
        ((18, 2, 28), (22, 0, 32), (26, -2, 36), (30, -5, 38)),
        (28, 28, 25, 12, 18),
        orientation=(25, 0, 10),
    ),
}


def finger_difference(one: Pose, other: Pose) -> float:
    """Root mean square difference of two poses' finger angles, degrees.

    Over MCP flexion, three times MCP abduction (its range is smaller), and PIP flexion.
    """
    difference_43 = (one.fingers_44() - other.fingers_44())[:, :3] * [1.0, 3, 1.0]
    return float(np.sqrt((difference_43**2).mean()))


def far_pose(rng: np.random.Generator) -> Pose:
    """A random pose within the joints' limits, at least :data:`FAR` from every label.

    Raises:
        RuntimeError: none was found in a thousand draws.
    """
    for _ in range(1000):
        bend_42 = rng.uniform((0, 0), (85, 105), (4, 2))
        straight_4 = rng.random(4) < 0.25
        bend_42[straight_4] = rng.uniform((0, 0), (25, 12), (int(straight_4.sum()), 2))
        abduction_4 = (np.array([8, 1, -5, -12]) + rng.normal(0, 4, 4)).clip(-19, 19)
        low, high = THUMB_LIMITS.T
        swing, lift, pronation, mcp_flexion, ip_flexion = rng.uniform(low * 0.5, high * 0.8)
        index, middle, ring, little = (
            (mcp, abduction, pip)
            for (mcp, pip), abduction in zip(bend_42, abduction_4, strict=True)
        )
        turn, tip, roll = rng.uniform((-40, -15, -30), (60, 15, 60))
        pose = Pose(
            (index, middle, ring, little),
            (swing, lift, pronation, mcp_flexion, ip_flexion),
            orientation=(turn, tip, roll),
        )
        if min(finger_difference(pose, label) for label in POSES.values()) >= FAR:
            return pose
    raise RuntimeError(f"no pose is {FAR} degrees from every label")
