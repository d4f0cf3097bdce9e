"""Distances to a bank of training images: strangers who stay strangers.

Letters: N images, B training images, V views, D and C features, R layers, K labels.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from sign_ensemble.data.backbone import Features
from sign_ensemble.rejection import reference_set as bank_module
from sign_ensemble.rejection.class_gaussians import fit_class_gaussians, relative_distance
from sign_ensemble.rejection.gda_predictions import GdaPredictions
from sign_ensemble.rejection.hand_count import HandCountImages
from sign_ensemble.rejection.nearest_neighbours import knn_distance
from sign_ensemble.rejection.norms import Norms
from sign_ensemble.rejection.reference_set import (
    ReferenceSet,
    distances,
    fit_distance_models,
    hand_count_of_other_signers,
    measure_distances,
    models_of_other_signers,
)
from sign_ensemble.rejection.regional_mahalanobis import regional_distance

PLACES = np.array([[9.0, 0.0, 0.0], [0.0, 9.0, 0.0], [0.0, 0.0, 9.0]])


def bank(seed: int = 0, people: int = 3, views: int = 2) -> ReferenceSet:
    """Eight images by each of three people of each of three labels, and views a little beside."""
    rng = np.random.default_rng(seed)
    labels, groups, _ = (x.ravel() for x in np.indices((3, people, 8)))

    def crowd(width: int) -> np.ndarray:
        values = np.zeros((len(labels), width))
        values[:, :3] = PLACES[labels]
        return values + rng.uniform(0, 0.5, values.shape)

    fifth_BVD = np.stack([crowd(12) for _ in range(1 + views)], 1).astype(np.float16)
    made = HandCountImages(
        np.abs(rng.normal(size=(4 * people, 12))).astype(np.float16),
        np.tile([1, 2, 0, 1], people),
        np.repeat(np.arange(people), 4),
    )
    third_BD, fourth_BD = (crowd(18).astype(np.float16) for _ in range(2))
    return ReferenceSet(fifth_BVD, third_BD, fourth_BD, labels, groups, made)


class Few(Features):
    """Features of so few values as the bank's."""

    @property
    def fifth_ND(self) -> np.ndarray:
        return self.all_ND[:, :12]

    @property
    def third_ND(self) -> np.ndarray:
        return self.all_ND[:, 12:30]

    @property
    def fourth_ND(self) -> np.ndarray:
        return self.all_ND[:, 30:]

    def rows(self, chosen: np.ndarray) -> Features:
        return Few(self.all_ND[chosen])


def found_in(some: ReferenceSet) -> Features:
    return Few(np.concatenate([some.fifth_BVD[:, 0], some.third_BD, some.fourth_BD], 1))


def test_clouds_read_people_they_never_saw() -> None:
    known, strangers = bank(0), bank(1)
    atlas = fit_distance_models(known, True)
    cloud_N, part_N, to_labels_RNK = distances(found_in(strangers), atlas, 3)
    assert np.array_equal(
        part_N, regional_distance((strangers.third_BD, strangers.fourth_BD), atlas.parts, cloud_N)
    )
    assert to_labels_RNK.shape == (2, len(strangers.labels_B), 3)
    assert (to_labels_RNK.argmin(2) == strangers.labels_B).all()
    expected = relative_distance(
        strangers.third_BD, fit_class_gaussians(known.third_BD, known.labels_B)
    )
    assert np.array_equal(cloud_N, expected)


def test_where_clouds_do_not_read_the_fifth_layer_has_none() -> None:
    atlas = fit_distance_models(bank(), False)
    assert atlas.fifth is None
    assert distances(found_in(bank(1)), atlas, 3)[2].shape == (1, 72, 3)


def test_a_label_without_a_cloud_is_as_far_as_the_farthest() -> None:
    known = bank()
    some = known.rows(known.labels_B != 1)
    cloud_N, part_N, to_labels_RNK = distances(found_in(known), fit_distance_models(some, True), 4)
    assert np.isfinite(to_labels_RNK).all()
    for absent in (1, 3):
        assert np.array_equal(to_labels_RNK[:, :, absent], to_labels_RNK.max(2))
    assert (to_labels_RNK.argmin(2)[:, known.labels_B == 2] == 2).all()
    assert np.isfinite([cloud_N, part_N]).all()


@pytest.mark.usefixtures("exact_products")
def test_images_are_strangers_to_their_own_signer() -> None:
    known = bank()
    at = measure_distances(
        found_in(known),
        known.groups_B,
        known,
        models_of_other_signers(known, known.groups_B, True),
        2,
        3,
    )
    for person in range(3):
        mine, others = known.groups_B == person, known.rows(known.groups_B != person)
        found = found_in(known.rows(mine))
        cloud_N, part_N, to_labels_RNK = distances(found, fit_distance_models(others, True), 3)
        assert np.array_equal(at.cloud_N[mine], cloud_N)
        assert np.array_equal(at.part_N[mine], part_N)
        usual = Norms.of(others.fifth_BVD[:, 0])
        assert np.array_equal(at.norm_N[mine], usual.of_images(found.fifth_ND))
        assert np.array_equal(at.to_labels_RNK[:, mine], to_labels_RNK)
        assert known.lessons is not None
        assert at.hands_NG is not None
        learned = known.lessons.fit(person)
        assert np.array_equal(at.hands_NG[mine], learned.scores(found.fifth_ND))
        near = knn_distance(found.fifth_ND, others.fifth_BVD[:, 0], 2)
        assert at.neighbour_N[mine] == pytest.approx(near, abs=1e-6)


def test_a_few_images_at_a_time_are_as_far(monkeypatch: pytest.MonkeyPatch) -> None:
    known = bank()
    others = models_of_other_signers(known, known.groups_B, True)
    at = measure_distances(found_in(known), known.groups_B, known, others, 2, 3)
    monkeypatch.setattr(bank_module, "AT_ONCE", 5)
    some = measure_distances(found_in(known), known.groups_B, known, others, 2, 3)
    assert at.own_N is some.own_N is None
    for name in ("neighbour_N", "cloud_N", "part_N", "norm_N", "hands_NG", "to_labels_RNK"):
        values = getattr(at, name)
        np.testing.assert_allclose(getattr(some, name), values, rtol=1e-4, atol=1e-6)


def test_where_nobody_asks_for_the_hands_guards_there_is_no_such_distance() -> None:
    known = replace(bank(), hands=None)
    others = models_of_other_signers(known, known.groups_B, False)
    assert measure_distances(found_in(known), known.groups_B, known, others, 2, 3).hands_NG is None
    assert hand_count_of_other_signers(known, known.groups_B) == {}


def test_what_hands_look_like_is_not_learned_again_where_it_is_known() -> None:
    known = bank()
    hands = hand_count_of_other_signers(known, known.groups_B)
    others = models_of_other_signers(known, known.groups_B, False, hands)
    again = models_of_other_signers(known, known.groups_B, False)
    for group, atlas in others.items():
        assert atlas.hands is hands[group]
        learned = again[group].hands
        assert learned is not None
        assert np.array_equal(learned.weights_GD, hands[group].weights_GD)
    assert known.lessons is known.lessons  # made ready once


def test_nobody_to_compare_with_is_refused() -> None:
    with pytest.raises(ValueError, match="no training images"):
        models_of_other_signers(bank(people=1), np.zeros(1, np.int64), True)


def test_a_signer_without_an_image_in_the_bank_is_compared_with_all() -> None:
    known = bank()
    some = known.rows(known.groups_B != 2)  # whoever signed only what was left out
    at = measure_distances(found_in(known), known.groups_B, some,
                  models_of_other_signers(some, known.groups_B, True), 2, 3)  # fmt: skip
    mine = known.groups_B == 2
    found = found_in(known.rows(mine))
    assert np.array_equal(at.cloud_N[mine], distances(found, fit_distance_models(some, True), 3)[0])


def test_views_are_left_out_where_images_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    known = bank()
    plain = fit_distance_models(replace(known, fifth_BVD=known.fifth_BVD[:, :1]), True).fifth
    monkeypatch.setattr(bank_module, "MOST_ROWS", 2 * len(known.labels_B) - 1)
    few = fit_distance_models(known, True).fifth
    assert plain is not None and few is not None
    for name, values in plain.arrays().items():
        assert np.array_equal(values, few.arrays()[name]), name


def test_one_label_is_read_with_certainty() -> None:
    known = bank()
    one = known.rows(known.labels_B == 0)
    *_, to_labels_RNK = distances(found_in(one), fit_distance_models(one, True), 1)
    assert to_labels_RNK.shape == (2, 24, 1)
    assert np.isfinite(GdaPredictions((1.0, 1.0), 1).logits(to_labels_RNK)).all()
