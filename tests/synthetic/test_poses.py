"""Poses: within the joints' limits, told apart by outline, strange ones far away."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from numpy.typing import NDArray

from sign_ensemble.synthetic.alphabet import POSES, posed
from sign_ensemble.synthetic.flesh import ARM, Cones, hand
from sign_ensemble.synthetic.gestures import FAR, GESTURES, apart, far_pose
from sign_ensemble.synthetic.hand import Array, Joints, Proportions, clamped, limits, place
from sign_ensemble.synthetic.picture_set import LABELS
from sign_ensemble.synthetic.shape import Limb
from sign_ensemble.synthetic.signers import TURN_SD, angles, draw_joints, draw_signer, rotation
from sign_ensemble.synthetic.thumb import goal
from sign_ensemble.synthetic.trace import Camera, trace

SIDE, DRAWS = 64, 4  # pixels of a silhouette; of one signer, per label
SAME_OUTLINE = {"m", "n"}  # the same fist from outside: how far in the thumb lies tells them apart


def within_limits(joints: Joints) -> bool:
    low, high = limits().T
    flat = joints.flat()
    return bool(((flat >= low - 1e-9) & (flat <= high + 1e-9)).all())


@pytest.mark.parametrize("name", [*POSES, *GESTURES])
def test_pose_and_its_draws_are_within_the_joint_limits(name: str) -> None:
    pose = (POSES | GESTURES)[name]
    joints, _ = posed(pose, pose.fingers_F4(), np.array(pose.thumb), Proportions())
    assert within_limits(joints)
    for number in (1, 2):
        signer = draw_signer(7, number, spread=2.0)
        rng = np.random.default_rng(number)
        assert within_limits(draw_joints(signer, pose, 0, rng))


def test_clamped_brings_back_into_the_limits() -> None:
    wild = Joints(np.full((4, 4), 400.0), np.full(5, -400.0), np.full(2, 400.0))
    assert not within_limits(wild)
    assert within_limits(clamped(wild))


def test_there_are_27_labels_each_described() -> None:
    assert list(POSES) == [*"abcdefghijklmnopqrstuvwxyz", "space"]
    assert all(len(pose.says) > 20 for pose in POSES.values())


def test_straight_hand_reaches_as_far_as_its_bones() -> None:
    sizes = Proportions()
    bones = place(Joints(np.zeros((4, 4)), np.zeros(5), np.zeros(2)), sizes)
    tips_y = bones.fingers_F43[:, 3, 1]
    np.testing.assert_allclose(tips_y, sizes.knuckles_F3[:, 1] + sizes.lengths_F3.sum(1))
    np.testing.assert_allclose(bones.palmar_F33[1], np.tile([0.0, 0.0, 1.0], (3, 1)), atol=1e-12)
    np.testing.assert_allclose(bones.elbow_3, [0, -1, 0], atol=1e-12)


def test_right_angle_at_the_knuckle_points_out_of_the_palm() -> None:
    fingers = np.zeros((4, 4))
    fingers[1, 0] = 90.0
    bones = place(Joints(fingers, np.zeros(5), np.zeros(2)), Proportions())
    step = bones.fingers_F43[1, 3] - bones.fingers_F43[1, 0]
    np.testing.assert_allclose(step / np.linalg.norm(step), [0, 0, 1], atol=1e-12)


@pytest.mark.parametrize("name", [n for n, pose in POSES.items() if pose.contact is not None])
def test_thumb_reaches_its_place(name: str) -> None:
    pose = POSES[name]
    sizes = Proportions()
    assert pose.contact is not None
    _, bones = posed(pose, pose.fingers_F4(), np.array(pose.thumb), sizes)
    missed = np.linalg.norm(bones.thumb_43[3] - goal(pose.contact, bones, sizes))
    assert missed < 4.0, f"{missed:.1f} mm off"


def without_arm(cones: Cones) -> Cones:
    """A hand that ends at the wrist."""
    limbs = tuple(
        Limb(tuple((c - ARM, melt) for c, melt in limb.cones if c >= ARM), limb.parent)
        for limb in cones.limbs
    )
    return Cones(cones.ends_C23[ARM:], cones.radii_C2[ARM:], cones.kinds[ARM:], limbs)


def relief(label: str, draw: int) -> NDArray[np.float64]:
    """One signer's image of a pose (H, W): millimetres towards the camera, NaN beside it.

    The hand without its forearm, upright as the pose is; fingers, thumb and the hand's turn and tip
    vary from draw to draw as they do in a picture.
    """
    pose, person = POSES[label], draw_signer(3, 1, spread=0.0)
    rng = np.random.default_rng([5, draw])
    fingers_F4, thumb_5 = angles(person, pose, 0, rng)
    _, bones = posed(pose, fingers_F4, thumb_5, person.sizes)
    own = rng.standard_normal(3) * TURN_SD * [1.0, 1.0, 0.0]
    turn_33 = rotation(*(np.array(pose.orientation) + own))
    cones = hand(bones, person.sizes)
    ends_P3 = cones.ends_C23[ARM:].reshape(-1, 3) @ turn_33.T
    placed = without_arm(cones.moved(turn_33, -(ends_P3.min(0) + ends_P3.max(0)) / 2))
    picture = np.full((SIDE, SIDE), np.nan)
    patch = trace(placed.shape(), Camera(SIDE, SIDE, 700.0, 256))
    assert patch is not None
    inside = patch.cover_BN[0].numpy() > 0.5
    near = patch.points_BN3[0, :, 2].numpy()[inside]
    picture[patch.rows_N.numpy()[inside], patch.columns_N.numpy()[inside]] = near
    return picture - np.nanmedian(picture)


@pytest.fixture(scope="module")
def reliefs() -> NDArray[np.float64]:
    """Each label's draws, one label after another (27 · DRAWS, H, W)."""
    return np.stack([relief(label, n) for label in LABELS for n in range(DRAWS)])


def outlines_apart(one: NDArray[np.bool_], all_PHW: NDArray[np.bool_]) -> tuple[Array, Array]:
    """1 - IoU of a silhouette and each other at the shift where they share most; those shifts."""
    sides = (2 * SIDE, 2 * SIDE)
    product = np.fft.rfft2(one, s=sides) * np.fft.rfft2(all_PHW, s=sides).conj()
    shared = np.fft.irfft2(product, s=sides).reshape(len(all_PHW), -1)
    most = shared.max(1)
    shifts_P2 = np.stack(np.unravel_index(shared.argmax(1), sides), 1)
    shifts_P2 = np.where(shifts_P2 >= SIDE, shifts_P2 - 2 * SIDE, shifts_P2)
    return 1 - most / (one.sum() + all_PHW.sum((1, 2)) - most), shifts_P2


def within_and_between(apart_PP: Array, draws: int) -> tuple[Array, Array]:
    """Mean distance of two draws of each label, and of draws of each two labels."""
    labels = len(apart_PP) // draws
    blocks = apart_PP.reshape(labels, draws, labels, draws)
    between = blocks.mean((1, 3))
    return between.diagonal() * draws / (draws - 1), between  # a draw lies at 0 from itself


def test_silhouettes_differ_more_between_labels_than_within_one(
    reliefs: NDArray[np.float64],
) -> None:
    outlines = ~np.isnan(reliefs)
    distances = np.stack([outlines_apart(one, outlines)[0] for one in outlines])
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
        for j, shift in enumerate(outlines_apart(one, outlines)[1]):
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
        assert min(apart(pose, label) for label in POSES.values()) >= FAR
        joints, _ = posed(pose, pose.fingers_F4(), np.array(pose.thumb), Proportions())
        assert within_limits(joints)


def test_no_spread_makes_everyone_the_same() -> None:
    one, other = draw_signer(0, 1, 0.0), draw_signer(0, 2, 0.0)
    assert one.tone == other.tone
    np.testing.assert_array_equal(one.sizes.lengths_F3, other.sizes.lengths_F3)
    assert draw_signer(0, 1, 1.0).tone != draw_signer(0, 2, 1.0).tone
