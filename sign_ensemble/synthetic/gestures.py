"""Hand shapes that are no label: digits, horns, thumbs-up, and random ones far from every letter.

Digits 3, 4, 5, 7 and 8 as in ASL (6 looks like W, 9 like F, 0 like O, 1 like D, 2 like V).
"""

from __future__ import annotations

import numpy as np

from sign_ensemble.synthetic.alphabet import ACROSS, INDEX, LITTLE, MIDDLE, POSES, RING, Pose
from sign_ensemble.synthetic.hand import COUPLING, THUMB_LIMITS, Array
from sign_ensemble.synthetic.thumb import Contact

FAR = 27.0  # degrees, root mean square over the joints that people set one by one

OUT = (62.0, 10.0, 0.0, -5.0, -5.0)  # thumb away from the hand

GESTURES: dict[str, Pose] = {
    "three": Pose(
        "Thumb, index and middle finger out, apart; the rest folded.",
        ((0.0, 10.0, 2.0), (0.0, -8.0, 2.0), RING, LITTLE),
        OUT,
    ),
    "four": Pose(
        "Four fingers up, apart; thumb across the palm.",
        ((0.0, 14.0, 2.0), (0.0, 4.0, 2.0), (0.0, -6.0, 2.0), (0.0, -16.0, 2.0)),
        (10.0, 35.0, 45.0, 45.0, 40.0),
        Contact("ring", 0, -0.15, "palmar", 2.0),
    ),
    "five": Pose(
        "All five fingers out, apart.",
        ((0.0, 14.0, 2.0), (0.0, 4.0, 2.0), (0.0, -6.0, 2.0), (0.0, -18.0, 2.0)),
        OUT,
    ),
    "seven": Pose(
        "Ring finger and thumb touch; the others up, apart.",
        ((0.0, 12.0, 2.0), (0.0, 2.0, 2.0), (58.0, -4.0, 64.0), (2.0, -16.0, 4.0)),
        (10.0, 55.0, 60.0, 10.0, 30.0),
        Contact("ring", 2, 0.9, "palmar", -1.0),
    ),
    "eight": Pose(
        "Middle finger and thumb touch; the others up, apart.",
        ((0.0, 12.0, 2.0), (58.0, 0.0, 62.0), (2.0, -8.0, 2.0), (2.0, -17.0, 4.0)),
        (15.0, 52.0, 55.0, 8.0, 25.0),
        Contact("middle", 2, 0.9, "palmar", -1.0),
    ),
    "horns": Pose(
        "Index and little finger up, the two between folded under the thumb.",
        ((0.0, 6.0, 2.0), MIDDLE, RING, (0.0, -8.0, 2.0)),
        ACROSS,
        Contact("middle", 1, 0.85, "dorsal"),
    ),
    "thumbs-up": Pose(
        "Fist on its side, thumb up.",
        (INDEX, MIDDLE, RING, LITTLE),
        (62.0, 10.0, 0.0, -10.0, -12.0),
        orientation=(-25.0, 0.0, 70.0),
    ),
    "pointing-down": Pose(
        "Index finger straight down, the rest a fist.",
        ((0.0, 0.0, 2.0), MIDDLE, RING, LITTLE),
        ACROSS,
        Contact("middle", 1, 0.85, "dorsal"),
        orientation=(160.0, 0.0, 178.0),
    ),
    "relaxed": Pose(
        "A hand at rest: all fingers a little bent.",
        ((18.0, 2.0, 28.0), (22.0, 0.0, 32.0), (26.0, -2.0, 36.0), (30.0, -5.0, 38.0)),
        (28.0, 28.0, 25.0, 12.0, 18.0),
        orientation=(25.0, 0.0, 10.0),
    ),
}


def apart(one: Pose, other: Pose) -> float:
    """Root mean square difference of two poses' finger angles, degrees.

    Over MCP flexion and abduction and PIP flexion of four fingers; abduction counts three times,
    its range being that much smaller.
    """
    difference_F3 = (one.fingers_F4() - other.fingers_F4())[:, :3] * [1.0, 3.0, 1.0]
    return float(np.sqrt((difference_F3**2).mean()))


def far_pose(rng: np.random.Generator) -> Pose:
    """A random legal pose that lies at least :data:`FAR` from every label and every gesture.

    Raises:
        RuntimeError: none was found in a thousand draws.
    """
    for _ in range(1000):
        bend_F2 = rng.uniform((0, 0), (85, 105), (4, 2))
        straight_F = rng.random(4) < 0.25
        bend_F2[straight_F] = rng.uniform((0, 0), (25, 12), (int(straight_F.sum()), 2))
        abduction_F = np.array([8, 1, -5, -12]) + rng.normal(0, 4, 4)
        fingers: Array = np.stack(
            [bend_F2[:, 0], abduction_F.clip(-19, 19), bend_F2[:, 1], COUPLING * bend_F2[:, 1]], 1
        )
        low, high = THUMB_LIMITS.T
        thumb = rng.uniform(low * 0.5, high * 0.8)
        index, middle, ring, little = (_finger(row) for row in fingers)
        turn, tip, roll = rng.uniform((-40, -15, -30), (60, 15, 60))
        pose = Pose(
            "A hand shape without a meaning.",
            (index, middle, ring, little),
            (float(thumb[0]), float(thumb[1]), float(thumb[2]), float(thumb[3]), float(thumb[4])),
            orientation=(float(turn), float(tip), float(roll)),
        )
        if min(apart(pose, label) for label in POSES.values()) >= FAR:
            return pose
    raise RuntimeError(f"no pose is {FAR} degrees from every label")


def _finger(row: Array) -> tuple[float, float, float, float]:
    mcp, abduction, pip, dip = (float(v) for v in row)
    return mcp, abduction, pip, dip
