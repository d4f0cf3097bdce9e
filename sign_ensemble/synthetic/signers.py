"""Random signers (hand, skin, sleeve, habits, camera, light) and random images of one signer.

``spread`` scales how far signers lie from the average one: 0 makes all the same, 1 is as people
differ. Variation between the images of one signer does not depend on it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from sign_ensemble.synthetic.alphabet import Pose, solve_pose
from sign_ensemble.synthetic.hand_cones import Cones, hand
from sign_ensemble.synthetic.kinematics import (
    FINGER_LIMITS,
    MEAN_HAND,
    THUMB_LIMITS,
    Array,
    Proportions,
)
from sign_ensemble.synthetic.light import Lamp
from sign_ensemble.synthetic.render import Colour, PosedHand, Scene, Wall
from sign_ensemble.synthetic.skin import marks

# The Monk Skin Tone scale's ten tones, light to dark (Monk, 2019), as sRGB.
MONK_HEX = "f6ede4 f3e7db f7ead0 eadaba d7bd96 a07e56 825c43 604134 3a312a 292420"
MONK = np.array([list(bytes.fromhex(tone)) for tone in MONK_HEX.split()], np.float64)
MEAN_TONE, TONES = 4.6, (3.0, 8.6)  # the lightest and darkest that are drawn
LEFT_HANDED = 0.1  # share of people (Papadatou-Pastou et al., 2020: 10.6 %)
SLEEVED = 0.5
# Relative, both sexes together, after Greiner (1991) and Buryanov and Kotiuk (2010).
BREADTH_SD, GIRTH_SD, LENGTH_SD, FINGER_SD = 0.079, 0.02, 0.063, 0.05
# Standard deviations in degrees: of a person's habit in each label, and of one image.
FINGER_HABIT, FINGER_SD_DEGREES = (6.0, 1.8, 6.0, 5.0), (3.5, 0.9, 3.5, 3.0)
THUMB_HABIT, THUMB_SD_DEGREES = (6.0, 5.0, 6.0, 7.0, 8.0), (3.0, 2.5, 3.0, 3.0, 3.0)
TURN_HABIT, TURN_SD = (10.0, 7.0, 8.0), (6.0, 5.0, 5.0)


@dataclass(frozen=True)
class Signer:
    """One person in front of one camera."""

    seed: tuple[int, int]  # of the set, number of the signer; habits are drawn from it
    spread: float  # how far habits lie from the average
    sizes: Proportions
    sleeve: float | None  # millimetres from wrist to cuff; None for bare arms
    camera_tilt: Array  # turn, tip, roll in degrees
    empty: Scene  # skin colour, light, wall and camera, without a hand


def draw_signer(seed: int, number: int, spread: float = 1.0) -> Signer:
    """Signer ``number`` (from 1) of the set that the seed describes."""
    rng = np.random.default_rng([seed, number, 1])
    s = spread
    breadth = np.exp(s * BREADTH_SD * rng.standard_normal())
    length = np.exp(s * LENGTH_SD * rng.standard_normal())
    thick = np.exp(s * GIRTH_SD * rng.standard_normal()) * breadth
    each = np.exp(s * FINGER_SD * rng.standard_normal((4, 3)))
    sizes = Proportions(
        knuckles_43=MEAN_HAND.knuckles_43 * [breadth, length, 1.0],
        lengths_43=MEAN_HAND.lengths_43 * length * each,
        radii_44=MEAN_HAND.radii_44 * thick,
        thumb_base_3=MEAN_HAND.thumb_base_3 * [breadth, length, thick],
        thumb_lengths_3=MEAN_HAND.thumb_lengths_3
        * length
        * np.exp(s * FINGER_SD * rng.normal(size=3)),
        thumb_radii_4=MEAN_HAND.thumb_radii_4 * thick,
        palm=MEAN_HAND.palm * thick,
        wrist=(MEAN_HAND.wrist[0] * thick, MEAN_HAND.wrist[1] * breadth),
    )
    place = (number * 0.6180339887 + rng.uniform(-0.1, 0.1)) % 1.0  # neighbours differ in tone
    tone = MEAN_TONE + min(s, 1.0) * (TONES[0] + place * (TONES[1] - TONES[0]) - MEAN_TONE)
    levels = np.array([np.interp(tone, np.arange(1, 11), MONK[:, c]) for c in range(3)])
    linear = 0.86 * (levels / 255) ** 2.2
    cloth = rng.uniform(0.02, 0.5, 3)
    sleeve = float(rng.uniform(12, 60)) if rng.random() < SLEEVED and s > 0 else None
    around = np.array([-0.4, 0.62, 0.68]) + 0.38 * s * rng.standard_normal(3) * [1.5, 0.7, 0.5]
    around[2] = max(around[2], 0.3)
    around /= np.linalg.norm(around)
    warmth = 0.07 * s * rng.standard_normal()
    strength = 0.9 * np.exp(0.08 * s * rng.standard_normal())
    ambient = 0.42 * np.exp(0.15 * s * rng.standard_normal())
    bright = 0.84 * np.exp(0.05 * s * rng.standard_normal())
    slope = 0.03 + 0.05 * s * rng.standard_normal(2)
    frame = 205.0 * np.exp(0.08 * s * rng.standard_normal()) * length
    left_handed = bool(rng.random() < LEFT_HANDED and s > 0)
    distance = float(np.clip(700 * np.exp(0.2 * s * rng.standard_normal()), 500, 1200))
    camera_tilt = 5.0 * s * rng.standard_normal(3)
    empty = Scene(
        tone=_colour(linear),
        cloth=_colour(cloth),
        lamp=Lamp(
            _colour(around),
            _colour(strength * np.array([1 + warmth, 1.0, 1 - 1.4 * warmth])),
            _colour(ambient * np.array([1 + warmth / 2, 1.0, 1 - warmth / 2])),
        ),
        wall=Wall(
            _colour(bright * np.array([1 + warmth / 3, 1.0, 1 - warmth / 3])),
            (float(slope[0]), float(slope[1])),
            float(rng.uniform(0.02, 0.12)),
            float(rng.uniform(0.1, 0.35)),
        ),
        distance=distance,
        frame=float(frame),
        mirrored=left_handed,
        blur=float(rng.uniform(0.001, 0.0022)),
        noise=float(rng.uniform(1.0, 3.5)),
    )
    return Signer((seed, number), s, sizes, sleeve, camera_tilt, empty)


def angles(signer: Signer, pose: Pose, key: int, rng: np.random.Generator) -> tuple[Array, Array]:
    """Finger (4, 4) and thumb (5,) angles of one image, within the limits.

    They vary about the pose by the person's habit, drawn from the pose's number ``key``, and by
    the image's ``rng``.
    """
    habit = np.random.default_rng([*signer.seed, key, 3])
    own_44 = habit.standard_normal((4, 4)) * FINGER_HABIT + habit.standard_normal(4) * [4, 0, 4, 3]
    own_5 = habit.standard_normal(5) * THUMB_HABIT
    fingers_44 = pose.fingers_44() + signer.spread * own_44
    fingers_44 = fingers_44 + rng.standard_normal((4, 4)) * FINGER_SD_DEGREES
    thumb_5 = np.array(pose.thumb) + signer.spread * own_5
    thumb_5 = thumb_5 + rng.standard_normal(5) * THUMB_SD_DEGREES
    return np.clip(fingers_44, *FINGER_LIMITS.T), np.clip(thumb_5, *THUMB_LIMITS.T)


def rotation(turn: float, tip: float, roll: float) -> Array:
    """Rotation (3, 3) about the vertical, then the horizontal, then in the picture; degrees."""
    a, b, c = np.radians([turn, tip, roll])
    y = np.array([[np.cos(a), 0, np.sin(a)], [0, 1, 0], [-np.sin(a), 0, np.cos(a)]])
    x = np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    z = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
    return z @ x @ y


def draw_scene(
    signer: Signer,
    pose: Pose,
    key: int,
    rng: np.random.Generator,
    offset: tuple[float, float] = (0.0, 0.0),
) -> Scene:
    """One image of a signer holding a pose; ``key`` as in :func:`angles`.

    The hand's centre lies at ``offset``, right and up, in shares of the frame's height.
    """
    _, bones = solve_pose(pose, *angles(signer, pose, key, rng), signer.sizes)
    habit = np.random.default_rng([*signer.seed, key, 4])
    own = signer.spread * habit.standard_normal(3) * TURN_HABIT
    turn = np.array(pose.orientation) + own + signer.camera_tilt + rng.standard_normal(3) * TURN_SD
    turn_33 = rotation(*turn)
    palm_13 = np.array([[0.0, 10.0, 0.0]])
    joints_X3 = np.concatenate([bones.fingers_443.reshape(-1, 3), bones.thumb_43, palm_13])
    points = joints_X3 @ turn_33.T
    jitter = rng.normal(0, 0.025, 2) + offset
    shift_3 = -(points.min(0) + points.max(0)) / 2
    shift_3 = shift_3 + signer.empty.frame * np.array([jitter[0], jitter[1], 0.0])
    cones = hand(bones, signer.sizes, signer.sleeve)
    every = (0, len(cones.materials))
    posed = PosedHand(turn_33, shift_3, marks(bones, signer.sizes), every)
    return lit_scene(signer, rng, cones.moved(turn_33, shift_3), (posed,))


def lit_scene(
    signer: Signer, rng: np.random.Generator, cones: Cones | None, hands: tuple[PosedHand, ...] = ()
) -> Scene:
    """A scene in the signer's light, which varies a little from image to image."""
    lamp, wall, frame = signer.empty.lamp, signer.empty.wall, signer.empty.frame
    around = np.array(lamp.towards) + rng.normal(0, 0.07, 3)
    around /= np.linalg.norm(around)
    level = np.exp(0.04 * rng.standard_normal())
    return replace(
        signer.empty,
        cones=cones,
        hands=hands,
        lamp=Lamp(
            _colour(around),
            _colour(level * np.array(lamp.colour)),
            _colour(level * np.array(lamp.ambient)),
        ),
        wall=replace(wall, colour=_colour(np.array(wall.colour) * level)),
        frame=frame * float(np.exp(rng.normal(0, 0.04))),
        seed=int(rng.integers(2**31)),
    )


def _colour(values: Array) -> Colour:
    red, green, blue = (float(v) for v in values)
    return red, green, blue
