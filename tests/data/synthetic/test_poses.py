"""Poses: within the joints' limits, told apart by outline, strange ones far away."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from sign_ensemble.data.synthetic.alphabet import POSES, posed
from sign_ensemble.data.synthetic.flesh import hand
from sign_ensemble.data.synthetic.gestures import FAR, GESTURES, apart, far_pose
from sign_ensemble.data.synthetic.hand import Joints, Proportions, clamped, limits, place
from sign_ensemble.data.synthetic.picture_set import LABELS
from sign_ensemble.data.synthetic.signers import draw_joints, draw_signer, rotation
from sign_ensemble.data.synthetic.thumb import goal
from sign_ensemble.data.synthetic.trace import Camera, trace


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
    assert missed < 9.0, f"{missed:.1f} mm off"


def relief(label: str, draw: int | None) -> NDArray[np.float64]:
    """A small picture of what the hand covers and, a little, of how near it is.

    Args:
        label: Which pose.
        draw: Which image of it, with that image's joints; None for the pose itself.
    """
    pose, person = POSES[label], draw_signer(3, 1, spread=0.0)
    if draw is None:
        _, bones = posed(pose, pose.fingers_F4(), np.array(pose.thumb), person.sizes)
    else:
        rng = np.random.default_rng(draw)
        bones = place(draw_joints(person, pose, 0, rng), person.sizes)
    cones = hand(bones, person.sizes).moved(rotation(*pose.orientation), np.zeros(3))
    picture = np.zeros((72, 96))
    camera = Camera(96, 72, 700.0, 420.0)
    for patch in trace(cones.shape(), camera):
        inside = patch.cover_BN[0].numpy() > 0.5
        near = patch.points_BN3[0, :, 2].numpy()[inside]
        rows, columns = patch.rows_N.numpy()[inside], patch.columns_N.numpy()[inside]
        picture[rows, columns] = 1.0 + 0.01 * near
    return picture


def test_silhouettes_differ_more_between_labels_than_within_one() -> None:
    means = {label: relief(label, None) for label in LABELS}
    for one in LABELS:
        own = np.mean([np.linalg.norm(relief(one, n) - means[one]) for n in range(2)])
        for other in LABELS:
            if one != other:
                between = np.linalg.norm(means[other] - means[one])
                assert between > own, f"{one} and {other}: {between:.1f}, within {own:.1f}"


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
