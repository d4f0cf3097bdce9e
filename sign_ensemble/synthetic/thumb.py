"""Where the thumb goes: joint angles that bring it to a place on the other fingers.

Letters differ by where the thumb rests. That place is named on the fingers, and the angles are
solved for each person's proportions and each image's finger angles.

Letters: A sets of angles, K points on the thumb's axis, S segments of the fingers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.optimize import least_squares

from sign_ensemble.synthetic.hand import (
    FINGERS,
    THUMB_LIMITS,
    Array,
    Bones,
    Proportions,
    place_thumbs,
)

Side = Literal["palmar", "dorsal", "radial", "ulnar"]
OPENNESS = 25.0  # degrees that weigh as much as one millimetre: how dear it is to leave the habit
LAST = 1e-3  # relative; solved to a tenth of a millimetre
NUDGE = 1e-5  # degrees, of the slopes


@dataclass(frozen=True)
class Contact:
    """A place on a finger's skin that the thumb's tip reaches.

    Args:
        finger: index, middle, ring or little.
        segment: 0 proximal, 1 middle, 2 distal phalanx.
        along: Share of the segment's length from its base.
        side: Which side of the segment.
        gap: Millimetres between the thumb's skin and the finger's; negative presses in.
    """

    finger: str
    segment: int
    along: float
    side: Side
    gap: float = 0.0


def goal(contact: Contact, bones: Bones, sizes: Proportions) -> Array:
    """Where the thumb's tip has its centre (3,), millimetres."""
    f, s = FINGERS.index(contact.finger), contact.segment
    start, end = bones.fingers_F43[f, s], bones.fingers_F43[f, s + 1]
    along = (end - start) / np.linalg.norm(end - start)
    palmar = bones.palmar_F33[f, s]
    radial = np.cross(along, palmar)
    direction = {"palmar": palmar, "dorsal": -palmar, "radial": radial, "ulnar": -radial}
    radius = np.interp(contact.along, [0, 1], sizes.radii_F4[f, s : s + 2])
    reach = radius + sizes.thumb_radii_4[3] + contact.gap
    return start + contact.along * (end - start) + reach * direction[contact.side]


def solved(
    habit_5: Array, contact: Contact | None, bones: Bones, sizes: Proportions, clear: float = 1.0
) -> Array:
    """The thumb's angles (5,) nearest to the habit that keep out of the fingers.

    Args:
        habit_5: Angles that the thumb would have without fingers.
        contact: Where its tip must be, if anywhere.
        bones: The posed fingers.
        sizes: The person's hand.
        clear: How much touching flesh is spared, 1 fully, 0 not at all.
    """
    target = None if contact is None else goal(contact, bones, sizes)
    a_S3 = bones.fingers_F43[:, :3].reshape(-1, 3)
    b_S3 = bones.fingers_F43[:, 1:].reshape(-1, 3)
    radii_S = (sizes.radii_F4[:, :3].ravel(), sizes.radii_F4[:, 1:].ravel())
    share_K = np.linspace(0.25, 1, 4)[:, None]

    def residuals(angles_A5: Array) -> Array:
        """What is to be small, a row for each set of angles."""
        thumb_A43, _ = place_thumbs(angles_A5, sizes)
        ends_A43 = thumb_A43[:, 1:, None]  # of the last two segments, one after another
        points_A2K3 = ends_A43[:, :2] + share_K * (ends_A43[:, 1:] - ends_A43[:, :2])
        depth_AK = _penetration(
            points_A2K3.reshape(len(angles_A5), -1, 3), radius_K, a_S3, b_S3, radii_S
        )
        parts = [(angles_A5 - habit_5) / OPENNESS, clear * depth_AK]
        if target is not None:
            parts.append(2.0 * (thumb_A43[:, 3] - target))
        return np.concatenate(parts, 1)

    def slopes(angles_5: Array) -> Array:
        """How each residual rises with each angle; all six places at once."""
        nudge_5 = np.where(angles_5 + NUDGE < high, NUDGE, -NUDGE)
        found = residuals(np.concatenate([angles_5[None], angles_5 + np.diag(nudge_5)]))
        rises: Array = ((found[1:] - found[0]) / nudge_5[:, None]).T
        return rises

    r = sizes.thumb_radii_4
    radius_K = np.concatenate([r[s] + share_K[:, 0] * (r[s + 1] - r[s]) for s in (1, 2)])
    low, high = THUMB_LIMITS.T
    first = np.clip(habit_5, low + 0.5, high - 0.5)
    found = least_squares(
        lambda angles_5: residuals(angles_5[None])[0],
        first,
        slopes,
        bounds=(low, high),
        ftol=LAST,
        xtol=LAST,
        max_nfev=25,
    )
    return np.clip(found.x, low, high)


def _penetration(
    points_AK3: Array,
    radius_K: Array,
    a_S3: Array,
    b_S3: Array,
    radii_S: tuple[Array, Array],
) -> Array:
    """How deep each point's ball is in the nearest finger, millimetres, 0 outside (A, K)."""
    axis_S3 = b_S3 - a_S3
    from_a_AKS3 = points_AK3[:, :, None] - a_S3
    t_AKS = np.clip((from_a_AKS3 * axis_S3).sum(-1) / (axis_S3**2).sum(-1), 0, 1)
    apart_AKS = np.linalg.norm(from_a_AKS3 - t_AKS[..., None] * axis_S3, axis=-1)
    thick_AKS = radii_S[0] + t_AKS * (radii_S[1] - radii_S[0])
    return np.maximum(0.0, (thick_AKS + radius_K[:, None] - apart_AKS).max(-1))
