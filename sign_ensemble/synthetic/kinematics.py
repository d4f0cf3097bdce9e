"""The hand's joints, their limits, and forward kinematics.

The frame of a right hand, in millimetres: origin at the wrist, x towards the thumb (radial), y
towards the fingers (distal), z out of the palm (palmar). A left hand is the mirror image of its
picture. An axis of 4 that comes first counts index, middle, ring and little finger.

Sources: bone lengths are the means of Buryanov and Kotiuk, "Proportions of hand segments"
(International Journal of Morphology 28, 2010, 755-758), the distal ones with the pulp and without
the fingertip's radius. Breadth of hand and wrist and girth of PIP, DIP and the thumb's IP are
men's means of Greiner, "Hand anthropometry of U.S. Army personnel" (Natick TR-92/011, 1991),
times 0.94 for the mean of both sexes; other thicknesses are set by eye. Limits after Lin, Wu and
Huang, "Modeling the constraints of human hand motion" (Workshop on Human Motion, 2000), the
thumb's and the wrist's after the American Academy of Orthopaedic Surgeons, "Joint motion" (1965);
some are up to 20 degrees wider, and the thumb's swing and pronation are set by eye.

Letters: A sets of angles.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

FINGERS = ("index", "middle", "ring", "little")
COUPLING = 2 / 3  # DIP flexion per PIP flexion (Lin, Wu and Huang)

# Degrees, (minimum, maximum).
FINGER_LIMITS = np.array(
    [
        (-20.0, 95.0),  # MCP flexion; extension beyond straight is active in most people
        (-20.0, 20.0),  # MCP abduction, positive towards the thumb
        (0.0, 110.0),  # PIP flexion
        (-10.0, 90.0),  # DIP flexion
    ]
)
THUMB_LIMITS = np.array(
    [
        (-45.0, 70.0),  # CMC: angle from the fingers' direction towards the radial side
        (-10.0, 70.0),  # CMC: palmar abduction, out of the palm's plane
        (-20.0, 90.0),  # CMC: pronation, which turns the pad towards the fingers
        (-15.0, 70.0),  # MCP flexion
        (-20.0, 85.0),  # IP flexion
    ]
)
WRIST_LIMITS = np.array([(-70.0, 80.0), (-30.0, 20.0)])  # palmar flexion; deviation to the thumb


@dataclass(frozen=True)
class Proportions:
    """Sizes of one person's hand, millimetres."""

    knuckles_43: Array  # centres of the fingers' MCP joints
    lengths_43: Array  # proximal, middle, and distal phalanx to the centre of the fingertip's ball
    radii_44: Array  # at MCP, PIP, DIP and fingertip
    thumb_base_3: Array  # centre of the thumb's CMC joint
    thumb_lengths_3: Array  # metacarpal, proximal, and distal phalanx to the centre of its ball
    thumb_radii_4: Array  # at CMC, MCP, IP and tip
    palm: float  # half thickness of the palm
    wrist: tuple[float, float]  # half thickness and half breadth


MEAN_HAND = Proportions(
    knuckles_43=np.array([(28, 89, 0), (6, 92, -2), (-15.5, 86, -1), (-35, 76, 2)]),
    lengths_43=np.array(
        [(39.8, 22.4, 12.9), (44.6, 26.3, 14.4), (41.4, 25.7, 14.7), (32.7, 18.1, 13.8)]
    ),
    radii_44=np.array(
        [
            (10.9, 10.2, 8.6, 6.8),
            (11.1, 10.4, 8.6, 6.9),
            (10.4, 9.7, 8.1, 6.5),
            (9.3, 8.6, 7.4, 5.9),
        ]
    ),
    thumb_base_3=np.array([17.0, 22.0, 8.0]),
    thumb_lengths_3=np.array([46.2, 31.6, 20.2]),
    thumb_radii_4=np.array([14.0, 11.8, 10.8, 7.2]),
    palm=12.5,
    wrist=(19.0, 31.0),
)


@dataclass(frozen=True)
class Joints:
    """The angles of one hand, degrees."""

    fingers_44: Array  # MCP flexion, MCP abduction (towards the thumb), PIP and DIP flexion
    thumb_5: Array  # CMC angle in the palm's plane, palmar abduction, pronation; MCP, IP flexion
    wrist_2: Array  # palmar flexion, deviation towards the thumb


@dataclass(frozen=True)
class Bones:
    """A posed hand's bones: points (mm) and unit directions in the hand's frame."""

    fingers_443: Array  # MCP, PIP, DIP and the centre of each fingertip's ball
    palmar_433: Array  # direction that each phalanx's palmar side faces
    thumb_43: Array  # CMC, MCP, IP and tip
    thumb_palmar_33: Array  # direction that the pad's side of metacarpal and phalanges faces
    elbow_3: Array  # unit direction from the wrist to the elbow
    arm_palmar_3: Array  # direction that the forearm's palmar side faces


# Palmar arch: each finger's plane of flexion leans towards the hand's middle, degrees about y.
ARCH = np.array([-6.0, 0.0, 4.0, 10.0])


def forward_kinematics(joints: Joints, sizes: Proportions) -> Bones:
    """Bones of a hand with these joint angles."""
    fingers_443 = np.empty((4, 4, 3))
    palmar_433 = np.empty((4, 3, 3))
    for f in range(4):
        mcp, abduction, pip, dip = np.radians(joints.fingers_44[f])
        lean = np.radians(ARCH[f])
        along = np.array([np.sin(abduction), np.cos(abduction), 0.0])
        up = np.array([np.sin(lean), 0.0, np.cos(lean)])
        up = up - (up @ along) * along
        up /= np.linalg.norm(up)
        fingers_443[f, 0] = sizes.knuckles_43[f]
        for s, turn in enumerate(np.cumsum([mcp, pip, dip])):
            step = np.cos(turn) * along + np.sin(turn) * up
            palmar_433[f, s] = np.cos(turn) * up - np.sin(turn) * along
            fingers_443[f, s + 1] = fingers_443[f, s] + sizes.lengths_43[f, s] * step
    thumbs_143, pads_133 = thumb_kinematics(joints.thumb_5[None], sizes)
    flexion, deviation = np.radians(joints.wrist_2)
    flat = np.cos(flexion)
    elbow = np.array([np.sin(deviation) * flat, -np.cos(deviation) * flat, np.sin(flexion)])
    arm_palmar = np.array([0.0, np.sin(flexion), np.cos(flexion)])
    arm_palmar -= (arm_palmar @ elbow) * elbow
    return Bones(fingers_443, palmar_433, thumbs_143[0], pads_133[0], elbow, arm_palmar)


def thumb_kinematics(angles_A5: Array, sizes: Proportions) -> tuple[Array, Array]:
    """The thumb's joints (A, 4, 3) and the direction of each segment's pad (A, 3, 3)."""
    swing, lift, roll, mcp, ip = np.radians(angles_A5).T
    flat, still = np.cos(lift), np.zeros_like(lift)
    along_A3 = np.stack([np.sin(swing) * flat, np.cos(swing) * flat, np.sin(lift)], -1)
    ulnar_A3 = np.stack([-np.cos(swing), np.sin(swing), still], -1)
    dorsal_A3 = np.cross(along_A3, ulnar_A3)
    dorsal_A3 *= np.where(dorsal_A3[:, 2:] < 0, 1.0, -1.0)
    pad_A3 = np.cos(roll)[:, None] * ulnar_A3 + np.sin(roll)[:, None] * dorsal_A3
    turns_A31 = np.stack([still, mcp, mcp + ip], 1)[..., None]
    cos_A31, sin_A31 = np.cos(turns_A31), np.sin(turns_A31)
    steps_A33 = cos_A31 * along_A3[:, None] + sin_A31 * pad_A3[:, None]
    steps_A33 *= sizes.thumb_lengths_3[:, None]
    base_A13 = np.broadcast_to(sizes.thumb_base_3, (len(angles_A5), 1, 3))
    joints_A43 = np.cumsum(np.concatenate([base_A13, steps_A33], 1), 1)
    return joints_A43, cos_A31 * pad_A3[:, None] - sin_A31 * along_A3[:, None]
