"""Inverse kinematics of the thumb: joint angles that bring its tip to a place on another finger.

Letters that differ by where the thumb rests name that place; the angles are solved for each
person's proportions and each image's finger angles.

Letters: A sets of angles, Z finger segments.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.optimize import least_squares

from sign_ensemble.synthetic.kinematics import (
    FINGERS,
    THUMB_LIMITS,
    Array,
    Bones,
    Proportions,
    thumb_kinematics,
)

Side = Literal["palmar", "dorsal", "radial", "ulnar"]
HABIT_DEGREES = 25.0  # this far from the habit costs as much as one millimetre of penetration
TOLERANCE = 1e-3  # relative; a tenth of a millimetre
SLOPE_STEP = 1e-5  # degrees, of the finite differences


@dataclass(frozen=True)
class Contact:
    """A place on a finger's skin that the thumb's tip reaches."""

    finger: str  # index, middle, ring or little
    segment: int  # 0 proximal, 1 middle, 2 distal phalanx
    along: float  # share of the segment's length from its base
    side: Side  # which side of the segment
    gap: float = 0.0  # millimetres between the thumb's skin and the finger's; negative presses in


def contact_target(contact: Contact, bones: Bones, sizes: Proportions) -> Array:
    """Where the centre of the thumb's tip must be (3,), millimetres."""
    f, s = FINGERS.index(contact.finger), contact.segment
    start, end = bones.fingers_443[f, s], bones.fingers_443[f, s + 1]
    along = (end - start) / np.linalg.norm(end - start)
    palmar = bones.palmar_433[f, s]
    radial = np.cross(along, palmar)
    direction = {"palmar": palmar, "dorsal": -palmar, "radial": radial, "ulnar": -radial}
    radius = np.interp(contact.along, [0, 1], sizes.radii_44[f, s : s + 2])
    reach = radius + sizes.thumb_radii_4[3] + contact.gap
    return start + contact.along * (end - start) + reach * direction[contact.side]


def solve_thumb(habit_5: Array, contact: Contact | None, bones: Bones, sizes: Proportions) -> Array:
    """The thumb's angles (5,) near the habit that reach the contact and keep out of the fingers."""
    target = None if contact is None else contact_target(contact, bones, sizes)
    a_Z3 = bones.fingers_443[:, :3].reshape(-1, 3)
    b_Z3 = bones.fingers_443[:, 1:].reshape(-1, 3)
    radii_Z = (sizes.radii_44[:, :3].ravel(), sizes.radii_44[:, 1:].ravel())
    share_41 = np.linspace(0.25, 1, 4)[:, None]

    def residuals(angles_A5: Array) -> Array:
        """Residuals of least squares, a row for each set of angles."""
        thumb_A43, _ = thumb_kinematics(angles_A5, sizes)
        ends_A313 = thumb_A43[:, 1:, None]
        points_A243 = ends_A313[:, :2] + share_41 * (ends_A313[:, 1:] - ends_A313[:, :2])
        depth_A8 = _penetration(
            points_A243.reshape(len(angles_A5), -1, 3), radius_8, a_Z3, b_Z3, radii_Z
        )
        parts = [(angles_A5 - habit_5) / HABIT_DEGREES, depth_A8]
        if target is not None:
            parts.append(2.0 * (thumb_A43[:, 3] - target))
        return np.concatenate(parts, 1)

    def jacobian(angles_5: Array) -> Array:
        """Finite differences of all residuals by each angle."""
        step_5 = np.where(angles_5 + SLOPE_STEP < high, SLOPE_STEP, -SLOPE_STEP)
        found = residuals(np.concatenate([angles_5[None], angles_5 + np.diag(step_5)]))
        slopes: Array = ((found[1:] - found[0]) / step_5[:, None]).T
        return slopes

    r = sizes.thumb_radii_4
    radius_8 = np.concatenate([r[s] + share_41[:, 0] * (r[s + 1] - r[s]) for s in (1, 2)])
    low, high = THUMB_LIMITS.T
    found = least_squares(
        lambda angles_5: residuals(angles_5[None])[0],
        np.clip(habit_5, low + 0.5, high - 0.5),
        jacobian,
        bounds=(low, high),
        ftol=TOLERANCE,
        xtol=TOLERANCE,
        max_nfev=25,
    )
    return np.clip(found.x, low, high)


def _penetration(
    points_A83: Array, radius_8: Array, a_Z3: Array, b_Z3: Array, radii_Z: tuple[Array, Array]
) -> Array:
    """How deep each point's ball is in the nearest finger, millimetres, 0 outside (A, 8)."""
    axis_Z3 = b_Z3 - a_Z3
    from_a_A8Z3 = points_A83[:, :, None] - a_Z3
    t_A8Z = np.clip((from_a_A8Z3 * axis_Z3).sum(-1) / (axis_Z3**2).sum(-1), 0, 1)
    distance_A8Z = np.linalg.norm(from_a_A8Z3 - t_A8Z[..., None] * axis_Z3, axis=-1)
    thick_A8Z = radii_Z[0] + t_A8Z * (radii_Z[1] - radii_Z[0])
    return np.maximum(0.0, (thick_A8Z + radius_8[:, None] - distance_A8Z).max(-1))
