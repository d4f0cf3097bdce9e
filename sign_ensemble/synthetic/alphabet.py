"""The 27 labels: hand shape, thumb and orientation of each letter of the ASL alphabet.

J and Z are their final position. Orientation is what the camera sees: ``turn`` degrees about the
vertical (positive shows less of the thumb's side), then ``tip`` about the horizontal, then
``roll`` in the picture (positive is anticlockwise).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sign_ensemble.synthetic.kinematics import (
    COUPLING,
    Array,
    Bones,
    Joints,
    Proportions,
    forward_kinematics,
)
from sign_ensemble.synthetic.thumb_contact import Contact, solve_thumb

Finger = tuple[float, float, float] | tuple[float, float, float, float]


@dataclass(frozen=True)
class Pose:
    """A label's hand."""

    # Index, middle, ring, little: MCP flexion, abduction towards the thumb, PIP flexion and, where
    # it is not 2/3 of that, DIP flexion; degrees.
    fingers: tuple[Finger, Finger, Finger, Finger]
    thumb: tuple[float, float, float, float, float]  # as in Joints, before the contact is solved
    contact: Contact | None = None  # where the thumb's tip rests
    orientation: tuple[float, float, float] = (0, 0, 0)  # turn, tip, roll of the hand, degrees
    wrist: tuple[float, float] = (0, 0)  # flexion and deviation, degrees

    def fingers_44(self) -> Array:
        """The fingers' angles with the coupled DIP filled in."""
        return np.array(
            [f if len(f) == 4 else (*f, COUPLING * f[2]) for f in self.fingers], np.float64
        )


def solve_pose(
    pose: Pose, fingers_44: Array, thumb_5: Array, sizes: Proportions
) -> tuple[Joints, Bones]:
    """Joints and bones of a pose with these finger angles, the thumb brought to its contact."""
    wrist_2 = np.array(pose.wrist)
    bones = forward_kinematics(Joints(fingers_44, thumb_5, wrist_2), sizes)
    joints = Joints(fingers_44, solve_thumb(thumb_5, pose.contact, bones, sizes), wrist_2)
    return joints, forward_kinematics(joints, sizes)


FIST = INDEX, MIDDLE, RING, LITTLE = (82, 3, 102), (84, 0, 102), (84, -3, 102), (82, -6, 102)
ACROSS = (45, 35, 30, 25, 35)  # thumb in front of the fingers

POSES: dict[str, Pose] = {
    # Fist, palm forward; the thumb stands straight up against the side of the index finger.
    "a": Pose(FIST, (32, 18, 12, 20, 4), orientation=(0, 12, 0)),
    # Flat hand, palm forward, fingers straight up and together; the thumb folded across the palm.
    "b": Pose(
        ((2, 0, 4), (0, 0, 3), (0, 0, 3), (2, 2, 4)),
        (10, 35, 45, 45, 40),
        Contact("ring", 0, -0.15, "palmar", 2),
    ),
    # Fingers together and curved, thumb curved opposite: the hand is a C seen from the side.
    "c": Pose(
        ((32, 0, 48), (30, 0, 48), (32, 0, 48), (36, 2, 46)),
        (25, 55, 40, 10, 25),
        orientation=(62, 0, -8),
    ),
    # Index finger straight up; the other fingers curve down to the thumb's tip, a circle.
    "d": Pose(
        ((0, 2, 2), (62, 0, 68), (66, -2, 68), (66, -4, 70)),
        (10, 55, 60, 10, 30),
        Contact("middle", 2, 0.95, "palmar", 0),
        orientation=(12, 0, 0),
    ),
    # All fingers bent so that their tips rest on the thumb, which lies across the palm below.
    "e": Pose(
        ((38, 2, 106, 55), (40, 0, 106, 55), (40, -1, 106, 55), (38, -2, 106, 55)),
        (25, 35, 10, 45, 20),
        Contact("ring", 2, 2.2, "palmar", -16),
        orientation=(0, 5, 0),
    ),
    # Thumb and index finger touch at their tips, a ring; the other three stand up.
    "f": Pose(
        ((58, 0, 58, 25), (6, -1, 6), (2, -2, 4), (2, -4, 6)),
        (22, 48, 40, 5, 25),
        Contact("index", 2, 0.85, "palmar", -1),
    ),
    # Index finger points to the side, thumb parallel above it; the rest folded, palm to the body.
    "g": Pose(
        ((22, 0, 2), MIDDLE, RING, LITTLE),
        (12, 18, 10, 0, 0),
        orientation=(-16, 0, 80),
        wrist=(15, 0),
    ),
    # Index and middle finger point to the side, together; thumb folded over the ring finger.
    "h": Pose(
        ((12, -1, 2), (12, 1, 2), RING, LITTLE),
        ACROSS,
        Contact("ring", 1, 0.45, "dorsal"),
        orientation=(-10, 0, 78),
        wrist=(15, 0),
    ),
    # Little finger straight up; the other fingers a fist with the thumb across them.
    "i": Pose((INDEX, MIDDLE, RING, (0, -6, 3)), ACROSS, Contact("middle", 1, 0.5, "dorsal")),
    # The I hand at the end of its stroke: tilted over, little finger pointing to the side.
    "j": Pose(
        (INDEX, MIDDLE, RING, (0, -10, 3)),
        ACROSS,
        Contact("middle", 1, 0.5, "dorsal"),
        orientation=(12, 0, 44),
        wrist=(0, -5),
    ),
    # Index finger straight up, middle finger forward and up, spread; the thumb's tip between them,
    # on the middle finger's first segment.
    "k": Pose(
        ((0, 5, 2), (20, -6, 4), RING, LITTLE),
        (16, 30, 25, -5, 0),
        Contact("middle", 0, 0.6, "radial"),
    ),
    # Index finger straight up, thumb straight out to the side: an L; the rest folded.
    "l": Pose(((0, 4, 2), MIDDLE, RING, LITTLE), (60, 8, 0, -5, -8)),
    # Index, middle and ring finger folded over the thumb, whose tip shows between ring and little
    # finger.
    "m": Pose(
        ((72, 0, 74, 30), (74, 0, 74, 30), (72, 0, 76, 30), LITTLE),
        (-10, 12, 0, 42, -5),
        Contact("ring", 1, 0, "ulnar", 0),
        orientation=(0, 15, 0),
    ),
    # Index and middle finger folded over the thumb, whose tip shows between middle and ring finger.
    "n": Pose(
        ((72, 0, 74, 30), (74, 0, 74, 30), RING, LITTLE),
        (2, 20, 15, 34, 5),
        Contact("middle", 1, 0, "ulnar", 0),
        orientation=(0, 15, 0),
    ),
    # All fingertips curve to meet the thumb's: an O seen from the side.
    "o": Pose(
        ((48, 0, 58, 30), (46, 0, 60, 32), (48, 0, 60, 32), (54, 2, 56, 32)),
        (20, 60, 50, 5, 20),
        Contact("middle", 2, 0.9, "palmar", -1),
        orientation=(62, 0, -8),
    ),
    # The K hand turned over: index finger points to the side, middle finger aslant down, the
    # thumb's tip on the middle finger.
    "p": Pose(
        ((6, 4, 4), (58, -4, 6), RING, LITTLE),
        (20, 40, 30, 0, 5),
        Contact("middle", 0, 0.8, "radial"),
        orientation=(-80, 0, 90),
        wrist=(10, 0),
    ),
    # The G hand pointing down: index finger and thumb point down, side by side, with a gap.
    "q": Pose(
        ((38, 4, 8), MIDDLE, RING, LITTLE),
        (48, 40, 20, 0, 10),
        orientation=(-62, 0, 135),
        wrist=(30, 0),
    ),
    # Index and middle finger straight up and crossed; the thumb holds the others down.
    "r": Pose(((10, -8, 6), (0, 13, 8), RING, LITTLE), ACROSS, Contact("ring", 1, 0.45, "dorsal")),
    # Fist, palm forward, the thumb across the front of the fingers.
    "s": Pose(FIST, ACROSS, Contact("middle", 1, 0.35, "dorsal"), orientation=(0, 12, 0)),
    # Fist, the thumb under the index finger; its tip shows between index and middle finger.
    "t": Pose(
        ((56, 8, 92, 40), MIDDLE, RING, LITTLE),
        (14, 19, 12, 26, 12),
        Contact("index", 1, 0.1, "ulnar", -1),
        orientation=(0, 12, 0),
    ),
    # Index and middle finger straight up, together; the thumb holds the others down.
    "u": Pose(
        ((0, -1.5, 2), (0, 1.5, 2), RING, LITTLE), ACROSS, Contact("ring", 1, 0.45, "dorsal")
    ),
    # Index and middle finger straight up, spread: a V; the thumb holds the others down.
    "v": Pose(((0, 9.5, 2), (0, -9, 2), RING, LITTLE), ACROSS, Contact("ring", 1, 0.45, "dorsal")),
    # Index, middle and ring finger straight up, spread: a W; thumb over the little finger.
    "w": Pose(
        ((0, 13, 2), (0, 0, 2), (0, -13, 2), (78, 0, 95)),
        (-10, 45, 60, 35, 40),
        Contact("little", 1, 0.5, "dorsal"),
    ),
    # Index finger up and hooked; the others a fist with the thumb across them.
    "x": Pose(
        ((6, 2, 78, 48), MIDDLE, RING, LITTLE),
        ACROSS,
        Contact("middle", 1, 0.5, "dorsal"),
        orientation=(-32, 0, 0),
    ),
    # Thumb and little finger spread wide; the three fingers between are folded.
    "y": Pose((INDEX, MIDDLE, RING, (0, -20, 3)), (46, 10, 0, -8, -12), orientation=(0, 0, 4)),
    # The index finger that drew the Z, at its end: pointing up and aslant; the thumb across the
    # folded fingers.
    "z": Pose(
        ((4, 2, 3), MIDDLE, RING, LITTLE),
        ACROSS,
        Contact("middle", 1, 0.5, "dorsal"),
        orientation=(10, -6, 28),
    ),
    # Open flat hand, palm down, seen from above and from the thumb's side, pointing sideways.
    "space": Pose(
        ((0, 0, 4), (0, 0, 3), (0, 0, 3), (0, 1, 4)), (26, 4, 0, 0, 0), orientation=(-132, 0, 90)
    ),
}
