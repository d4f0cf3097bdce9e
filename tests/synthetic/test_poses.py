"""Poses: within the joints' limits, distinct outlines, random ones far from every label."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from numpy.typing import NDArray

from sign_ensemble.synthetic.alphabet import POSES, solve_pose
from sign_ensemble.synthetic.gestures import FAR, GESTURES, far_pose, finger_difference
from sign_ensemble.synthetic.hand_cones import ARM, Cones, hand
from sign_ensemble.synthetic.kinematics import (
    FINGER_LIMITS,
    MEAN_HAND,
    THUMB_LIMITS,
    WRIST_LIMITS,
    Array,
    Joints,
    forward_kinematics,
)
from sign_ensemble.synthetic.picture_set import LABELS
from sign_ensemble.synthetic.shape import Limb
from sign_ensemble.synthetic.signers import TURN_SD, angles, draw_signer, rotation
from sign_ensemble.synthetic.thumb_contact import contact_target
from sign_ensemble.synthetic.trace import Camera, trace

SIDE, DRAWS = 64, 4  # pixels of a silhouette; draws of one signer per label
SAME_OUTLINE = {"m", "n"}  # the same fist from outside; they differ in how far in the thumb lies


def within_limits(joints: Joints) -> bool:
    limits = (FINGER_LIMITS, THUMB_LIMITS, WRIST_LIMITS)
    angles = (joints.fingers_44, joints.thumb_5, joints.wrist_2)
    return all(
        np.abs(a - a.clip(*low_high.T)).max() <= 1e-9
        for a, low_high in zip(angles, limits, strict=True)
    )


@pytest.mark.parametrize("name", [*POSES, *GESTURES])
def test_pose_and_its_draws_are_within_the_joint_limits(name: str) -> None:
    pose = (POSES | GESTURES)[name]
    joints, _ = solve_pose(pose, pose.fingers_44(), np.array(pose.thumb), MEAN_HAND)
    assert within_limits(joints)
    for number in (1, 2):
        signer = draw_signer(7, number, spread=2.0)
        rng = np.random.default_rng(number)
        joints, _ = solve_pose(pose, *angles(signer, pose, 0, rng), signer.sizes)
        assert within_limits(joints)


def test_there_are_27_labels() -> None:
    assert list(POSES) == [*"abcdefghijklmnopqrstuvwxyz", "space"]


def test_straight_hand_reaches_as_far_as_its_bones() -> None:
    sizes = MEAN_HAND
    bones = forward_kinematics(Joints(np.zeros((4, 4)), np.zeros(5), np.zeros(2)), sizes)
    tips_y = bones.fingers_443[:, 3, 1]
    np.testing.assert_allclose(tips_y, sizes.knuckles_43[:, 1] + sizes.lengths_43.sum(1))
    np.testing.assert_allclose(bones.palmar_433[1], np.tile([0.0, 0.0, 1.0], (3, 1)), atol=1e-12)
    np.testing.assert_allclose(bones.elbow_3, [0, -1, 0], atol=1e-12)


def test_right_angle_at_the_knuckle_points_out_of_the_palm() -> None:
    fingers = np.zeros((4, 4))
    fingers[1, 0] = 90.0
    bones = forward_kinematics(Joints(fingers, np.zeros(5), np.zeros(2)), MEAN_HAND)
    step = bones.fingers_443[1, 3] - bones.fingers_443[1, 0]
    np.testing.assert_allclose(step / np.linalg.norm(step), [0, 0, 1], atol=1e-12)


@pytest.mark.parametrize("name", [n for n, pose in POSES.items() if pose.contact is not None])
def test_thumb_reaches_its_place(name: str) -> None:
    pose = POSES[name]
    sizes = MEAN_HAND
    assert pose.contact is not None
    _, bones = solve_pose(pose, pose.fingers_44(), np.array(pose.thumb), sizes)
    missed = np.linalg.norm(bones.thumb_43[3] - contact_target(pose.contact, bones, sizes))
    assert missed < 4.0, f"{missed:.1f} mm off"


def without_arm(cones: Cones) -> Cones:
    """A hand that ends at the wrist."""
    limbs = tuple(
        Limb(tuple((c - ARM, blend) for c, blend in limb.cones if c >= ARM), limb.parent)
        for limb in cones.limbs
    )
    return Cones(cones.ends_Y23[ARM:], cones.radii_Y2[ARM:], cones.materials[ARM:], limbs)


def relief(label: str, draw: int) -> NDArray[np.float64]:
    """One draw of a pose (H, W): millimetres towards the camera, NaN outside the hand.

    Without the forearm; fingers, thumb and the hand's turn and tip vary from draw to draw.
    """
    pose, person = POSES[label], draw_signer(3, 1, spread=0.0)
    rng = np.random.default_rng([5, draw])
    fingers_44, thumb_5 = angles(person, pose, 0, rng)
    _, bones = solve_pose(pose, fingers_44, thumb_5, person.sizes)
    own = rng.standard_normal(3) * TURN_SD * [1.0, 1.0, 0.0]
    turn_33 = rotation(*(np.array(pose.orientation) + own))
    cones = hand(bones, person.sizes)
    ends_X3 = cones.ends_Y23[ARM:].reshape(-1, 3) @ turn_33.T
    placed = without_arm(cones.moved(turn_33, -(ends_X3.min(0) + ends_X3.max(0)) / 2))
    picture = np.full((SIDE, SIDE), np.nan)
    patch = trace(placed.shape(), Camera(SIDE, SIDE, 700.0, 256))
    assert patch is not None
    inside = patch.cover_BX[0].numpy() > 0.5
    near = patch.points_BX3[0, :, 2].numpy()[inside]
    picture[patch.rows_X.numpy()[inside], patch.columns_X.numpy()[inside]] = near
    return picture - np.nanmedian(picture)


@pytest.fixture(scope="module")
def reliefs() -> NDArray[np.float64]:
    """Each label's draws, label after label (27 · DRAWS, H, W)."""
    return np.stack([relief(label, n) for label in LABELS for n in range(DRAWS)])


def outline_distances(one: NDArray[np.bool_], all_NHW: NDArray[np.bool_]) -> tuple[Array, Array]:
    """1 - IoU of a silhouette and each other at the shift of largest overlap; those shifts."""
    sides = (2 * SIDE, 2 * SIDE)
    product = np.fft.rfft2(one, s=sides) * np.fft.rfft2(all_NHW, s=sides).conj()
    shared = np.fft.irfft2(product, s=sides).reshape(len(all_NHW), -1)
    most = shared.max(1)
    shifts_X2 = np.stack(np.unravel_index(shared.argmax(1), sides), 1)
    shifts_X2 = np.where(shifts_X2 >= SIDE, shifts_X2 - 2 * SIDE, shifts_X2)
    return 1 - most / (one.sum() + all_NHW.sum((1, 2)) - most), shifts_X2


def within_and_between(distances_NN: Array, draws: int) -> tuple[Array, Array]:
    """Mean distance of two draws of each label, and of draws of each two labels."""
    labels = len(distances_NN) // draws
    blocks = distances_NN.reshape(labels, draws, labels, draws)
    between = blocks.mean((1, 3))
    return between.diagonal() * draws / (draws - 1), between  # a draw lies at 0 from itself


def test_silhouettes_differ_more_between_labels_than_within_one(
    reliefs: NDArray[np.float64],
) -> None:
    outlines = ~np.isnan(reliefs)
    distances = np.stack([outline_distances(one, outlines)[0] for one in outlines])
    within, between = within_and_between(distances, DRAWS)
    for (i, one), (j, other) in combinations(enumerate(LABELS), 2):
        if {one, other} != SAME_OUTLINE:
            own = max(within[i], within[j])
            assert between[i, j] > 1.1 * own, f"{one}, {other}: {between[i, j]:.2f}, own {own:.2f}"


def test_m_and_n_differ_in_relief_where_their_silhouettes_agree() -> None:
    """Millimetres of depth, at most 12, a pixel that only one covers counting as 12."""
    pictures = np.stack([relief(label, n) for label in sorted(SAME_OUTLINE) for n in range(8)])
    outlines = ~np.isnan(pictures)
    distances = np.zeros((len(pictures), len(pictures)))
    for i, one in enumerate(outlines):
        for j, shift in enumerate(outline_distances(one, outlines)[1]):
            moved = np.roll(pictures[j], shift, (0, 1))
            either = ~(np.isnan(moved) & np.isnan(pictures[i]))
            deep = np.nan_to_num(np.abs(moved - pictures[i]), nan=12.0)
            distances[i, j] = np.minimum(deep, 12.0)[either].mean()
    within, between = within_and_between(distances, 8)
    assert between[0, 1] > within.max(), f"{between[0, 1]:.2f} mm, within {within.max():.2f} mm"


def test_random_poses_are_far_from_every_label() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        pose = far_pose(rng)
        assert min(finger_difference(pose, label) for label in POSES.values()) >= FAR
        joints, _ = solve_pose(pose, pose.fingers_44(), np.array(pose.thumb), MEAN_HAND)
        assert within_limits(joints)


def test_no_spread_makes_everyone_the_same() -> None:
    one, other = draw_signer(0, 1, 0.0), draw_signer(0, 2, 0.0)
    assert one.empty.tone == other.empty.tone
    np.testing.assert_array_equal(one.sizes.lengths_43, other.sizes.lengths_43)
    assert draw_signer(0, 1, 1.0).empty.tone != draw_signer(0, 2, 1.0).empty.tone
