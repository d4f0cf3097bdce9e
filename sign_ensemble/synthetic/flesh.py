"""Bones → skin: a posed hand as cones in camera-independent millimetres.

The palm and the forearm melt together; each finger grows from the palm and meets its neighbours
with a crease. Numbers of the cones are fixed, so that many hands make one batch.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from sign_ensemble.synthetic.hand import Array, Bones, Proportions
from sign_ensemble.synthetic.shape import Limb, Shape

SKIN, CLOTH, THING = 0, 1, 2
FOREARM = 330.0  # millimetres drawn; the picture ends before
ARM = 4  # the first cones of a hand are its forearm and sleeve
FINGER_OF_CONE = (-1,) * 11 + tuple(f for f in range(5) for _ in range(3))  # thumb last


@dataclass(frozen=True)
class Cones:
    """Cones of a scene while it is put together.

    Args:
        ends_C23: Both ends of each axis, millimetres.
        radii_C2: Radius at both ends.
        kinds: Material of each.
        limbs: How they are joined.
    """

    ends_C23: Array
    radii_C2: Array
    kinds: tuple[int, ...]
    limbs: tuple[Limb, ...]

    def moved(self, turn_33: Array, shift_3: Array) -> Cones:
        """Rotated about the origin, then shifted."""
        return Cones(self.ends_C23 @ turn_33.T + shift_3, self.radii_C2, self.kinds, self.limbs)

    def shape(self, device: str = "cpu") -> Shape:
        """As a batch of one."""
        ends = torch.tensor(self.ends_C23, dtype=torch.float32, device=device)
        radii = torch.tensor(self.radii_C2, dtype=torch.float32, device=device)
        return Shape(ends[None, :, 0], ends[None, :, 1], radii[None], self.limbs, self.kinds)


def beside(*parts: Cones) -> Cones:
    """Several things in one scene, none melting into another."""
    limbs: list[Limb] = []
    cones = 0
    for part in parts:
        first = len(limbs)
        for limb in part.limbs:
            parent = limb.parent + first if limb.parent >= 0 else -1
            limbs.append(Limb(tuple((c + cones, melt) for c, melt in limb.cones), parent))
        cones += len(part.kinds)
    return Cones(
        np.concatenate([part.ends_C23 for part in parts]),
        np.concatenate([part.radii_C2 for part in parts]),
        tuple(kind for part in parts for kind in part.kinds),
        tuple(limbs),
    )


def forearm(bones: Bones, sizes: Proportions, sleeve: float | None) -> Cones:
    """Two cones side by side, as radius and ulna lie; with a sleeve, three of cloth over them.

    Args:
        bones: For the elbow's direction.
        sizes: For the wrist's breadth.
        sleeve: Millimetres from the wrist to the cuff; None for a bare arm.
    """
    thick, broad = sizes.wrist
    side = np.cross(bones.arm_palmar_3, bones.elbow_3)
    apart = (broad - thick) * side
    elbow = bones.elbow_3 * FOREARM
    ends = [(apart, apart * 1.5 + elbow), (-apart, -apart * 1.5 + elbow)]
    radii = [(thick, thick * 1.9)] * 2
    cuff = FOREARM * 2 if sleeve is None else sleeve  # out of the picture: the make-up stays
    far = bones.elbow_3 * (cuff + FOREARM)
    for offset in (apart, -apart):
        ends.append((bones.elbow_3 * cuff + offset, far + 1.6 * offset))
        radii.append((thick + 9 + cuff * 0.04, thick * 2.1 + 12))
    limbs = (Limb(((0, 14.0), (1, 14.0))), Limb(((2, 18.0), (3, 18.0))))
    return Cones(np.array(ends), np.array(radii), (SKIN, SKIN, CLOTH, CLOTH), limbs)


def hand(bones: Bones, sizes: Proportions, sleeve: float | None = None) -> Cones:
    """The skin over posed bones, forearm included.

    Limbs: palm with forearm, sleeve, index, middle, ring, little, thumb.
    """
    arm = forearm(bones, sizes, sleeve)
    palm = sizes.palm
    knuckles = bones.fingers_F43[:, 0]
    root_x = np.array([13.0, 4.0, -6.0, -15.0]) * (sizes.wrist[1] / 31)
    ends: list[tuple[Array, Array]] = []
    radii: list[tuple[float, float]] = []
    for f in range(4):  # metacarpals
        ends.append((np.array([root_x[f], 8.0, -1.0]), knuckles[f] + [0, -3, 0]))
        radii.append((palm + 3.5, sizes.radii_F4[f, 0] + 0.9))
    cmc, mcp = bones.thumb_43[:2]
    little = knuckles[3]
    ends.append((np.array([root_x[3] - 6, 16.0, 5.0]), little * 0.8 + [2, 0, 5]))  # hypothenar
    radii.append((palm - 1.5, palm - 4.5))
    ends.append((cmc + np.array([-3.0, -3.0, 1.0]), cmc + 0.75 * (mcp - cmc)))  # thenar
    radii.append((sizes.thumb_radii_4[0] + 1.5, sizes.thumb_radii_4[1] + 1.5))
    web = cmc + 0.72 * (mcp - cmc)
    ends.append((web, knuckles[0] * 0.62 + [2, 0, 1]))  # skin between thumb and index
    radii.append((8.0, 10.0))
    body = [(0, 14.0), (1, 14.0), *((c, 9.0) for c in range(4, 8)), (8, 9.0), (9, 10.0), (10, 12.0)]
    limbs = [Limb(tuple(body)), Limb(arm.limbs[1].cones)]
    for f in range(4):
        first = ARM + len(ends)
        for s in range(3):
            ends.append((bones.fingers_F43[f, s], bones.fingers_F43[f, s + 1]))
            radii.append((sizes.radii_F4[f, s], sizes.radii_F4[f, s + 1]))
        limbs.append(Limb(tuple(zip(range(first, first + 3), (6.0, 2.5, 2.0), strict=True)), 0))
    first = ARM + len(ends)
    for s in range(3):
        ends.append((bones.thumb_43[s], bones.thumb_43[s + 1]))
        radii.append((sizes.thumb_radii_4[s], sizes.thumb_radii_4[s + 1]))
    limbs.append(Limb(((first, 8.0), (first + 1, 3.0), (first + 2, 2.0)), 0))
    return Cones(
        np.concatenate([arm.ends_C23, np.array(ends)]),
        np.concatenate([arm.radii_C2, np.array(radii)]),
        arm.kinds + (SKIN,) * len(ends),
        tuple(limbs),
    )
