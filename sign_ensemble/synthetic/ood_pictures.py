"""Out-of-distribution (OOD) pictures of the built-in signers, for testing only.

``wrong-gesture``: hand shapes that are no label. ``no-hand``: the wall, a sleeve, a mug, a ball, a
pen. ``two-hands``: two letters at once. ``cropped``: a letter that is mostly outside the picture.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import numpy as np

from sign_ensemble.synthetic.alphabet import POSES
from sign_ensemble.synthetic.gestures import GESTURES, far_pose
from sign_ensemble.synthetic.hand_cones import CLOTH, OBJECT, Cones, combined
from sign_ensemble.synthetic.kinematics import Array
from sign_ensemble.synthetic.render import PosedHand, Scene
from sign_ensemble.synthetic.shape import Limb
from sign_ensemble.synthetic.signers import Signer, draw_scene, lit_scene, rotation

LABELS = tuple(POSES)
RANDOM_EVERY = 10  # of ten wrong gestures, one is a random pose
DEPTH = 130.0  # millimetres from one of two hands to the other, so that they do not intersect
STAVES = 44  # of a mug; they blend into a wall
SIDEWAYS, WIDER = 0.45, 1.4  # two hands: offset of each and growth of the frame, shares of it
GESTURE_KEY = 100  # habits of gestures are numbered after those of labels


def wrong_gesture(signer: Signer, n: int, rng: np.random.Generator) -> Scene:
    """Each named gesture in turn, then a random pose."""
    kind = n % RANDOM_EVERY
    if kind == RANDOM_EVERY - 1:
        return draw_scene(signer, far_pose(rng), GESTURE_KEY - 1, rng)
    name = list(GESTURES)[kind]
    return draw_scene(signer, GESTURES[name], GESTURE_KEY + kind, rng)


def no_hand(signer: Signer, n: int, rng: np.random.Generator) -> Scene:
    """The wall alone, a sleeve, a mug, a ball, a pen, in turn."""
    kind = n % 5
    if kind == 0:
        return lit_scene(signer, rng, None)
    made = (_sleeve, _mug, _ball, _pen)[kind - 1](rng)
    turn = rng.uniform((-30, 0, -25), (30, 35, 25)) if kind != 4 else rng.uniform(-90, 90, 3)
    shift = np.array([*rng.normal(0, 0.05, 2) * signer.empty.frame, 0.0])
    cones = made.moved(rotation(*turn), shift)
    red, green, blue = (float(v) for v in rng.uniform(0.03, 0.75, 3))
    return replace(lit_scene(signer, rng, cones), object_colour=(red, green, blue))


def two_hands(signer: Signer, n: int, rng: np.random.Generator) -> Scene:
    """One label of the right hand, and another of the left hand, farther away."""
    del n
    right, left = (
        draw_scene(signer, POSES[LABELS[k]], int(k), rng, (-SIDEWAYS, 0.0))
        for k in rng.choice(len(LABELS), 2, replace=False)
    )
    assert right.cones is not None and left.cones is not None
    flip = np.diag([-1.0, 1.0, 1.0])
    count = len(right.cones.materials)
    behind = np.array([0.0, 0.0, -DEPTH])
    hand = left.hands[0]
    hand = PosedHand(
        flip @ hand.turn_33, flip @ hand.shift_3 + behind, hand.marks, (count, 2 * count)
    )
    cones = combined(right.cones, left.cones.moved(flip, behind))
    both = lit_scene(signer, rng, cones, (right.hands[0], hand))
    return replace(both, frame=WIDER * both.frame)


def cropped(signer: Signer, n: int, rng: np.random.Generator) -> Scene:
    """A label of which only a part is in the picture; the rest is below, above, left or right."""
    side = ((0.0, -1.0), (0.0, 1.0), (-1.3, 0.0), (1.3, 0.0))[n % 4]
    share = rng.uniform(0.42, 0.56)
    k = int(rng.integers(len(LABELS)))
    return draw_scene(signer, POSES[LABELS[k]], k, rng, (side[0] * share, side[1] * share))


OOD_SETS: dict[str, Callable[[Signer, int, np.random.Generator], Scene]] = {
    "wrong-gesture": wrong_gesture,
    "no-hand": no_hand,
    "two-hands": two_hands,
    "cropped": cropped,
}


def _chain(ends: list[tuple[Array, Array]], radius: float, kind: int, blend: float) -> Cones:
    """Cones of one thickness in one limb."""
    return Cones(
        np.array(ends),
        np.full((len(ends), 2), radius),
        (kind,) * len(ends),
        (Limb(tuple((c, blend) for c in range(len(ends)))),),
    )


def _sleeve(rng: np.random.Generator) -> Cones:
    """An arm's sleeve that hides the hand."""
    end = np.array([rng.normal(0, 40), -330.0, 0.0])
    top = np.array([0.0, rng.uniform(-20, 60), 0.0])
    width = rng.uniform(24, 36)
    side_3 = np.array([16.0, 0.0, 0.0])
    ends = [(top + side_3, end + side_3), (top - side_3, end - side_3)]
    return _chain(ends, width, CLOTH, 18.0)


def _mug(rng: np.random.Generator) -> Cones:
    """A ring of staves, a bottom and a handle."""
    radius, high = rng.uniform(33, 42), rng.uniform(38, 50)
    around = np.linspace(0, 2 * np.pi, STAVES, endpoint=False)
    rim = np.stack([radius * np.cos(around), np.zeros(STAVES), radius * np.sin(around)], 1)
    up = np.array([0.0, high, 0.0])
    staves = [(p - up, p + up) for p in rim]
    floor = [(-up - p * 0.8, -up + p * 0.8) for p in rim[: STAVES // 2 : 2]]
    bow = np.linspace(-np.pi / 2, np.pi / 2, 9)
    handle = np.stack([radius + 26 * np.cos(bow), 26 * np.sin(bow), np.zeros(9)], 1)
    ring = list(pairwise(handle))
    return _chain(staves + floor + ring, 5.0, OBJECT, 6.0)


def _ball(rng: np.random.Generator) -> Cones:
    """A cone that is almost a sphere."""
    return _chain([(np.zeros(3), np.array([0.0, 0.1, 0.0]))], rng.uniform(25, 60), OBJECT, 1.0)


def _pen(rng: np.random.Generator) -> Cones:
    """A barrel, its tip and its cap."""
    half = rng.uniform(60, 80)
    ends = np.zeros((3, 2, 3))
    ends[..., 1] = (-half, half), (half, half + 14), (-half, -half + 40)
    radii = np.array([(4.5, 4.5), (4.5, 0.8), (5.4, 5.4)])
    limb = Limb(((0, 1.0), (1, 1.0), (2, 0.5)))
    return Cones(ends, radii, (OBJECT,) * 3, (limb,))
