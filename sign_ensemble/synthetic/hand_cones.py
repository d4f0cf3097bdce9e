"""A posed hand as cones: its palm, forearm, sleeve, fingers and thumb, millimetres.

Every hand has the same number of cones in the same order, so that many hands make one batch.

Letters: Y cones.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from sign_ensemble.synthetic.kinematics import Array, Bones, Proportions
from sign_ensemble.synthetic.shape import Limb, Shape

SKIN, CLOTH, OBJECT = 0, 1, 2  # materials
FOREARM = 330.0  # millimetres; longer than any picture shows
ARM = 4  # cones of the forearm and sleeve, which come first
FINGER_OF_CONE = (-1,) * 11 + tuple(f for f in range(5) for _ in range(3))  # 4 is the thumb


@dataclass(frozen=True)
class Cones:
    """Cones of a scene."""

    ends_Y23: Array  # both ends of each axis, millimetres
    radii_Y2: Array  # radius at both ends, millimetres
    materials: tuple[int, ...]  # material of each cone
    limbs: tuple[Limb, ...]  # how cones are joined

    def moved(self, turn_33: Array, shift_3: Array) -> Cones:
        """Rotated about the origin, then shifted."""
        return Cones(self.ends_Y23 @ turn_33.T + shift_3, self.radii_Y2, self.materials, self.limbs)

    def shape(self, device: str = "cpu") -> Shape:
        """The cones' signed distance, as a batch of one."""
        ends = torch.tensor(self.ends_Y23, dtype=torch.float32, device=device)
        radii = torch.tensor(self.radii_Y2, dtype=torch.float32, device=device)
        return Shape(ends[None, :, 0], ends[None, :, 1], radii[None], self.limbs, self.materials)


def combined(*parts: Cones) -> Cones:
    """Several objects in one scene, none blending into another."""
    limbs: list[Limb] = []
    cones = 0
    for part in parts:
        first = len(limbs)
        for limb in part.limbs:
            parent = limb.parent + first if limb.parent >= 0 else -1
            limbs.append(Limb(tuple((c + cones, blend) for c, blend in limb.cones), parent))
        cones += len(part.materials)
    return Cones(
        np.concatenate([part.ends_Y23 for part in parts]),
        np.concatenate([part.radii_Y2 for part in parts]),
        tuple(kind for part in parts for kind in part.materials),
        tuple(limbs),
    )


def forearm(bones: Bones, sizes: Proportions, sleeve: float | None) -> Cones:
    """Two cones of skin, as radius and ulna lie, and two of cloth over them.

    ``sleeve`` is in millimetres from the wrist to the cuff; None is a bare arm.
    """
    thick, broad = sizes.wrist
    side = np.cross(bones.arm_palmar_3, bones.elbow_3)
    offset = (broad - thick) * side
    elbow = bones.elbow_3 * FOREARM
    ends = [(offset, offset * 1.5 + elbow), (-offset, -offset * 1.5 + elbow)]
    radii = [(thick, thick * 1.9)] * 2
    cuff = FOREARM * 2 if sleeve is None else sleeve  # a bare arm's cuff is out of the picture
    far = bones.elbow_3 * (cuff + FOREARM)
    for each in (offset, -offset):
        ends.append((bones.elbow_3 * cuff + each, far + 1.6 * each))
        radii.append((thick + 9 + cuff * 0.04, thick * 2.1 + 12))
    limbs = (Limb(((0, 14.0), (1, 14.0))), Limb(((2, 18.0), (3, 18.0))))
    return Cones(np.array(ends), np.array(radii), (SKIN, SKIN, CLOTH, CLOTH), limbs)


def hand(bones: Bones, sizes: Proportions, sleeve: float | None = None) -> Cones:
    """Skin over posed bones, forearm included.

    Limbs: palm with forearm, sleeve, index, middle, ring, little, thumb.
    """
    arm = forearm(bones, sizes, sleeve)
    palm = sizes.palm
    knuckles = bones.fingers_443[:, 0]
    root_x = np.array([13.0, 4.0, -6.0, -15.0]) * (sizes.wrist[1] / 31)
    ends: list[tuple[Array, Array]] = []
    radii: list[tuple[float, float]] = []
    for f in range(4):  # metacarpals
        ends.append((np.array([root_x[f], 8.0, -1.0]), knuckles[f] + [0, -3, 0]))
        radii.append((palm + 3.5, sizes.radii_44[f, 0] + 0.9))
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
            ends.append((bones.fingers_443[f, s], bones.fingers_443[f, s + 1]))
            radii.append((sizes.radii_44[f, s], sizes.radii_44[f, s + 1]))
        limbs.append(Limb(tuple(zip(range(first, first + 3), (6.0, 2.5, 2.0), strict=True)), 0))
    first = ARM + len(ends)
    for s in range(3):
        ends.append((bones.thumb_43[s], bones.thumb_43[s + 1]))
        radii.append((sizes.thumb_radii_4[s], sizes.thumb_radii_4[s + 1]))
    limbs.append(Limb(((first, 8.0), (first + 1, 3.0), (first + 2, 2.0)), 0))
    return Cones(
        np.concatenate([arm.ends_Y23, np.array(ends)]),
        np.concatenate([arm.radii_Y2, np.array(radii)]),
        arm.materials + (SKIN,) * len(ends),
        tuple(limbs),
    )
