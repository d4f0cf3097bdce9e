"""The 27 labels: hand shape, thumb and orientation of each letter of the ASL alphabet.

Every pose has its description beside it. J and Z are their final position. Orientation is what
the camera sees: ``turn`` degrees about the vertical (positive shows the thumb's side less),
then ``tip`` about the horizontal, then ``roll`` in the picture (positive turns anticlockwise).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sign_ensemble.synthetic.hand import COUPLING, Array, Bones, Joints, Proportions, place
from sign_ensemble.synthetic.thumb import Contact, solved

Finger = tuple[float, float, float] | tuple[float, float, float, float]


@dataclass(frozen=True)
class Pose:
    """A label's hand.

    Args:
        says: The hand shape in words.
        fingers: Index, middle, ring, little: MCP flexion, abduction towards the thumb, PIP flexion
            and, where it is not 2/3 of it, DIP flexion; degrees.
        thumb: The five angles that it starts from, degrees.
        contact: Where the thumb's tip rests.
        orientation: turn, tip, roll of the hand, degrees.
        wrist: Flexion and deviation, degrees.
    """

    says: str
    fingers: tuple[Finger, Finger, Finger, Finger]
    thumb: tuple[float, float, float, float, float]
    contact: Contact | None = None
    orientation: tuple[float, float, float] = (0.0, 0.0, 0.0)
    wrist: tuple[float, float] = (0.0, 0.0)

    def fingers_F4(self) -> Array:
        """The fingers' angles with the coupled DIP filled in."""
        return np.array(
            [f if len(f) == 4 else (*f, COUPLING * f[2]) for f in self.fingers], np.float64
        )


def posed(
    pose: Pose, fingers_F4: Array, thumb_5: Array, sizes: Proportions
) -> tuple[Joints, Bones]:
    """The thumb brought to its place, then all bones.

    Args:
        pose: For the thumb's contact and the wrist.
        fingers_F4: Angles within the limits.
        thumb_5: The thumb's habit.
        sizes: The person's hand.
    """
    wrist_2 = np.array(pose.wrist)
    bones = place(Joints(fingers_F4, thumb_5, wrist_2), sizes)
    joints = Joints(fingers_F4, solved(thumb_5, pose.contact, bones, sizes), wrist_2)
    return joints, place(joints, sizes)


def _fist(spread: float = 3.0) -> tuple[Finger, Finger, Finger, Finger]:
    return (
        (82.0, spread, 102.0),
        (84.0, 0.0, 102.0),
        (84.0, -spread, 102.0),
        (82.0, -2 * spread, 102.0),
    )


INDEX, MIDDLE, RING, LITTLE = _fist()
ACROSS = (45.0, 35.0, 30.0, 25.0, 35.0)  # thumb in front of the fingers
ALONG = (20.0, 20.0, 10.0, 0.0, 5.0)  # thumb beside the index finger

POSES: dict[str, Pose] = {
    "a": Pose(
        "Fist, palm forward; the thumb stands straight up against the side of the index finger.",
        _fist(),
        (32.0, 18.0, 12.0, 20.0, 4.0),
        orientation=(0.0, 12.0, 0.0),
    ),
    "b": Pose(
        "Flat hand, palm forward, fingers straight up and together; the thumb folded across the "
        "palm.",
        ((2.0, 0.0, 4.0), (0.0, 0.0, 3.0), (0.0, 0.0, 3.0), (2.0, 2.0, 4.0)),
        (10.0, 35.0, 45.0, 45.0, 40.0),
        Contact("ring", 0, -0.15, "palmar", 2.0),
    ),
    "c": Pose(
        "Fingers together and curved, thumb curved opposite: the hand is a C seen from the side.",
        ((32.0, 0.0, 48.0), (30.0, 0.0, 48.0), (32.0, 0.0, 48.0), (36.0, 2.0, 46.0)),
        (25.0, 55.0, 40.0, 10.0, 25.0),
        orientation=(62.0, 0.0, -8.0),
    ),
    "d": Pose(
        "Index finger straight up; middle, ring and little finger curve down to the thumb's tip, "
        "a circle.",
        ((0.0, 2.0, 2.0), (62.0, 0.0, 68.0), (66.0, -2.0, 68.0), (66.0, -4.0, 70.0)),
        (10.0, 55.0, 60.0, 10.0, 30.0),
        Contact("middle", 2, 0.95, "palmar", 0.0),
        orientation=(12.0, 0.0, 0.0),
    ),
    "e": Pose(
        "All fingers bent so that their tips rest on the thumb, which lies across the palm below.",
        (
            (38.0, 2.0, 106.0, 55.0),
            (40.0, 0.0, 106.0, 55.0),
            (40.0, -1.0, 106.0, 55.0),
            (38.0, -2.0, 106.0, 55.0),
        ),
        (25.0, 35.0, 10.0, 45.0, 20.0),
        Contact("ring", 2, 2.2, "palmar", -16.0),
        orientation=(0.0, 5.0, 0.0),
    ),
    "f": Pose(
        "Thumb and index finger touch at their tips, a ring; the other three stand up.",
        ((58.0, 0.0, 58.0, 25.0), (6.0, -1.0, 6.0), (2.0, -2.0, 4.0), (2.0, -4.0, 6.0)),
        (22.0, 48.0, 40.0, 5.0, 25.0),
        Contact("index", 2, 0.85, "palmar", -1.0),
    ),
    "g": Pose(
        "Index finger points to the side, thumb parallel above it; the other fingers are folded, "
        "palm towards the body.",
        ((22.0, 0.0, 2.0), MIDDLE, RING, LITTLE),
        (12.0, 18.0, 10.0, 0.0, 0.0),
        orientation=(-16.0, 0.0, 80.0),
        wrist=(15.0, 0.0),
    ),
    "h": Pose(
        "Index and middle finger point to the side, together; thumb folded over the ring finger.",
        ((12.0, -1.0, 2.0), (12.0, 1.0, 2.0), RING, LITTLE),
        ACROSS,
        Contact("ring", 1, 0.45, "dorsal"),
        orientation=(-10.0, 0.0, 78.0),
        wrist=(15.0, 0.0),
    ),
    "i": Pose(
        "Little finger straight up; the other fingers a fist with the thumb across them.",
        (INDEX, MIDDLE, RING, (0.0, -6.0, 3.0)),
        ACROSS,
        Contact("middle", 1, 0.5, "dorsal"),
    ),
    "j": Pose(
        "The I hand at the end of its stroke: tilted over, little finger pointing to the side.",
        (INDEX, MIDDLE, RING, (0.0, -10.0, 3.0)),
        ACROSS,
        Contact("middle", 1, 0.5, "dorsal"),
        orientation=(12.0, 0.0, 44.0),
        wrist=(0.0, -5.0),
    ),
    "k": Pose(
        "Index finger straight up, middle finger forward and up, apart; the thumb's tip between "
        "them, on the middle finger's first segment.",
        ((0.0, 5.0, 2.0), (20.0, -6.0, 4.0), RING, LITTLE),
        (16.0, 30.0, 25.0, -5.0, 0.0),
        Contact("middle", 0, 0.6, "radial"),
    ),
    "l": Pose(
        "Index finger straight up, thumb straight out to the side: an L; the rest folded.",
        ((0.0, 4.0, 2.0), MIDDLE, RING, LITTLE),
        (60.0, 8.0, 0.0, -5.0, -8.0),
    ),
    "m": Pose(
        "Index, middle and ring finger folded over the thumb, whose tip shows between ring and "
        "little finger.",
        ((72.0, 0.0, 74.0, 30.0), (74.0, 0.0, 74.0, 30.0), (72.0, 0.0, 76.0, 30.0), LITTLE),
        (-10.0, 12.0, 0.0, 42.0, -5.0),
        Contact("ring", 1, 0.0, "ulnar", 0.0),
        orientation=(0.0, 15.0, 0.0),
    ),
    "n": Pose(
        "Index and middle finger folded over the thumb, whose tip shows between middle and ring "
        "finger.",
        ((72.0, 0.0, 74.0, 30.0), (74.0, 0.0, 74.0, 30.0), RING, LITTLE),
        (2.0, 20.0, 15.0, 34.0, 5.0),
        Contact("middle", 1, 0.0, "ulnar", 0.0),
        orientation=(0.0, 15.0, 0.0),
    ),
    "o": Pose(
        "All fingertips curve to meet the thumb's: an O seen from the side.",
        (
            (48.0, 0.0, 58.0, 30.0),
            (46.0, 0.0, 60.0, 32.0),
            (48.0, 0.0, 60.0, 32.0),
            (54.0, 2.0, 56.0, 32.0),
        ),
        (20.0, 60.0, 50.0, 5.0, 20.0),
        Contact("middle", 2, 0.9, "palmar", -1.0),
        orientation=(62.0, 0.0, -8.0),
    ),
    "p": Pose(
        "The K hand turned over: index finger points to the side, middle finger aslant down, the "
        "thumb's tip on the middle finger.",
        ((6.0, 4.0, 4.0), (58.0, -4.0, 6.0), RING, LITTLE),
        (20.0, 40.0, 30.0, 0.0, 5.0),
        Contact("middle", 0, 0.8, "radial"),
        orientation=(-80.0, 0.0, 90.0),
        wrist=(10.0, 0.0),
    ),
    "q": Pose(
        "The G hand pointing down: index finger and thumb point down, side by side, apart.",
        ((38.0, 4.0, 8.0), MIDDLE, RING, LITTLE),
        (48.0, 40.0, 20.0, 0.0, 10.0),
        orientation=(-62.0, 0.0, 135.0),
        wrist=(30.0, 0.0),
    ),
    "r": Pose(
        "Index and middle finger straight up and crossed; the thumb holds the others down.",
        ((10.0, -8.0, 6.0), (0.0, 13.0, 8.0), RING, LITTLE),
        ACROSS,
        Contact("ring", 1, 0.45, "dorsal"),
    ),
    "s": Pose(
        "Fist, palm forward, the thumb across the front of the fingers.",
        _fist(),
        ACROSS,
        Contact("middle", 1, 0.35, "dorsal"),
        orientation=(0.0, 12.0, 0.0),
    ),
    "t": Pose(
        "Fist, the thumb under the index finger; its tip shows between index and middle finger.",
        ((56.0, 8.0, 92.0, 40.0), MIDDLE, RING, LITTLE),
        (14.0, 19.0, 12.0, 26.0, 12.0),
        Contact("index", 1, 0.1, "ulnar", -1.0),
        orientation=(0.0, 12.0, 0.0),
    ),
    "u": Pose(
        "Index and middle finger straight up, together; the thumb holds the others down.",
        ((0.0, -1.5, 2.0), (0.0, 1.5, 2.0), RING, LITTLE),
        ACROSS,
        Contact("ring", 1, 0.45, "dorsal"),
    ),
    "v": Pose(
        "Index and middle finger straight up, apart: a V; the thumb holds the others down.",
        ((0.0, 9.5, 2.0), (0.0, -9.0, 2.0), RING, LITTLE),
        ACROSS,
        Contact("ring", 1, 0.45, "dorsal"),
    ),
    "w": Pose(
        "Index, middle and ring finger straight up, apart: a W; the thumb holds the little finger.",
        ((0.0, 13.0, 2.0), (0.0, 0.0, 2.0), (0.0, -13.0, 2.0), (78.0, 0.0, 95.0)),
        (-10.0, 45.0, 60.0, 35.0, 40.0),
        Contact("little", 1, 0.5, "dorsal"),
    ),
    "x": Pose(
        "Index finger up and hooked; the others a fist with the thumb across them.",
        ((6.0, 2.0, 78.0, 48.0), MIDDLE, RING, LITTLE),
        ACROSS,
        Contact("middle", 1, 0.5, "dorsal"),
        orientation=(-32.0, 0.0, 0.0),
    ),
    "y": Pose(
        "Thumb and little finger spread wide; the three fingers between are folded.",
        (INDEX, MIDDLE, RING, (0.0, -20.0, 3.0)),
        (46.0, 10.0, 0.0, -8.0, -12.0),
        orientation=(0.0, 0.0, 4.0),
    ),
    "z": Pose(
        "The index finger that drew the Z, at its end: pointing up and aslant; the thumb "
        "across the folded fingers.",
        ((4.0, 2.0, 3.0), MIDDLE, RING, LITTLE),
        ACROSS,
        Contact("middle", 1, 0.5, "dorsal"),
        orientation=(10.0, -6.0, 28.0),
    ),
    "space": Pose(
        "Open flat hand, palm down, seen from above and from the thumb's side, pointing sideways.",
        ((0.0, 0.0, 4.0), (0.0, 0.0, 3.0), (0.0, 0.0, 3.0), (0.0, 1.0, 4.0)),
        (26.0, 4.0, 0.0, 0.0, 0.0),
        orientation=(-132.0, 0.0, 90.0),
    ),
}
