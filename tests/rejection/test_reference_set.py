"""Distances to a reference set: of new signers, and of training signers to the others alone.

Letters: N images, B reference images, M layers, K labels.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from reference_sets import features_of, reference_set

from sign_ensemble.rejection import reference_set as module
from sign_ensemble.rejection.class_gaussians import (
    fit_class_gaussians,
    label_distances,
    relative_distance,
)
from sign_ensemble.rejection.gda_predictions import GdaPredictions
from sign_ensemble.rejection.nearest_neighbours import NearestNeighbours
from sign_ensemble.rejection.reference_set import (
    distances_to_others,
    fit_distance_models,
    hand_count_of_other_signers,
    mahalanobis_distances,
    models_of_other_signers,
)
from sign_ensemble.rejection.regional_mahalanobis import regional_distance


def test_class_gaussians_classify_unseen_signers() -> None:
    known, new = reference_set(0), reference_set(1)
    models = fit_distance_models(known, True)
    regional_N, to_labels_MNK, kinds = mahalanobis_distances(features_of(new), models, 3)
    third = fit_class_gaussians(known.third_BD, known.labels_B)
    of_image_N = relative_distance(*label_distances(new.third_BD, third))
    layers = (new.third_BD, new.fourth_BD)
    assert np.array_equal(regional_N, regional_distance(layers, models.regional, of_image_N))
    assert to_labels_MNK.shape == (2, len(new.labels_B), 3)
    assert (to_labels_MNK.argmin(2) == new.labels_B).all()
    assert kinds is None  # hands are not used


def test_without_gda_predictions_the_fifth_layer_has_no_gaussians() -> None:
    models = fit_distance_models(reference_set(), False)
    assert models.fifth is None
    found = mahalanobis_distances(features_of(reference_set(1)), models, 3)
    assert found[1].shape == (1, 72, 3)


def test_a_label_without_a_gaussian_is_as_far_as_the_farthest() -> None:
    known = reference_set()
    some = known.rows(known.labels_B != 1)
    models = fit_distance_models(some, True)
    regional_N, to_labels_MNK, _ = mahalanobis_distances(features_of(known), models, 4)
    assert np.isfinite(to_labels_MNK).all()
    for absent in (1, 3):
        assert np.array_equal(to_labels_MNK[:, :, absent], to_labels_MNK.max(2))
    assert (to_labels_MNK.argmin(2)[:, known.labels_B == 2] == 2).all()
    assert np.isfinite(regional_N).all()


@pytest.mark.usefixtures("exact_products")
def test_a_signers_images_are_compared_with_the_others_alone() -> None:
    known = reference_set()
    others = models_of_other_signers(known, known.groups_B, True)
    found = distances_to_others(features_of(known), known.groups_B, known, others, 2, 3)
    for signer in range(3):
        of_signer, rest = known.groups_B == signer, known.without(signer)
        features = features_of(known.rows(of_signer))
        models = fit_distance_models(rest, True)
        regional_N, to_labels_MNK, _ = mahalanobis_distances(features, models, 3)
        assert np.array_equal(found.regional_N[of_signer], regional_N)
        assert np.array_equal(found.to_labels_MNK[:, of_signer], to_labels_MNK)
        assert known.hand_count_training is not None
        assert found.hand_count_N2 is not None
        detector = known.hand_count_training.fit(signer)
        hand_count_N2 = detector.scores(features.fifth_ND)
        assert np.array_equal(found.hand_count_N2[of_signer], hand_count_N2)
        knn_N = NearestNeighbours.of(rest.fifth_BVD[:, 0]).distances(features.fifth_ND, 2)
        assert found.knn_N[of_signer] == pytest.approx(knn_N, abs=1e-6)


def test_a_few_images_at_a_time_have_the_same_distances(monkeypatch: pytest.MonkeyPatch) -> None:
    known = reference_set()
    others = models_of_other_signers(known, known.groups_B, True)
    found = distances_to_others(features_of(known), known.groups_B, known, others, 2, 3)
    monkeypatch.setattr(module, "AT_ONCE", 5)
    some = distances_to_others(features_of(known), known.groups_B, known, others, 2, 3)
    for name in ("knn_N", "regional_N", "hand_count_N2", "to_labels_MNK"):
        values = getattr(found, name)
        np.testing.assert_allclose(getattr(some, name), values, rtol=1e-4, atol=1e-6)


def test_without_pictures_there_is_no_hand_count() -> None:
    known = replace(reference_set(), pictures=None)
    others = models_of_other_signers(known, known.groups_B, False)
    found = distances_to_others(features_of(known), known.groups_B, known, others, 2, 3)
    assert found.hand_count_N2 is None
    assert hand_count_of_other_signers(known, known.groups_B) == {}


def test_known_hand_count_detectors_are_not_fitted_again() -> None:
    known = reference_set()
    detectors = hand_count_of_other_signers(known, known.groups_B)
    others = models_of_other_signers(known, known.groups_B, False, detectors)
    again = models_of_other_signers(known, known.groups_B, False)
    for group, models in others.items():
        assert models.hand_count is detectors[group]
        fitted = again[group].hand_count
        assert fitted is not None
        assert np.array_equal(fitted.weights_2D, detectors[group].weights_2D)
    assert known.hand_count_training is known.hand_count_training  # computed once


@pytest.mark.parametrize(
    ("pictures", "message"), [(True, "another signer"), (False, "at least one image")]
)
def test_a_single_signer_has_nobody_to_compare_with(pictures: bool, message: str) -> None:
    alone = reference_set(signers=1)
    alone = alone if pictures else replace(alone, pictures=None)
    with pytest.raises(ValueError, match=message):
        models_of_other_signers(alone, np.zeros(1, np.int64), True)


def test_a_signer_without_reference_images_is_compared_with_all() -> None:
    known = reference_set()
    some = known.rows(known.groups_B != 2)  # a signer of held-out labels alone
    others = models_of_other_signers(some, known.groups_B, True)
    found = distances_to_others(features_of(known), known.groups_B, some, others, 2, 3)
    of_signer = known.groups_B == 2
    features = features_of(known.rows(of_signer))
    regional_N, _, _ = mahalanobis_distances(features, fit_distance_models(some, True), 3)
    assert np.array_equal(found.regional_N[of_signer], regional_N)


def test_augmented_copies_are_left_out_where_images_are_many(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    known = reference_set()
    plain = fit_distance_models(replace(known, fifth_BVD=known.fifth_BVD[:, :1]), True).fifth
    monkeypatch.setattr(module, "MOST_ROWS", 2 * len(known.labels_B) - 1)
    few = fit_distance_models(known, True).fifth
    assert plain is not None and few is not None
    for name, values in plain.arrays().items():
        assert np.array_equal(values, few.arrays()[name]), name


def test_one_label_has_finite_distances() -> None:
    known = reference_set()
    one = known.rows(known.labels_B == 0)
    models = fit_distance_models(one, True)
    _, to_labels_MNK, _ = mahalanobis_distances(features_of(one), models, 1)
    assert to_labels_MNK.shape == (2, 24, 1)
    assert np.isfinite(GdaPredictions((1.0, 1.0), 1).logits(to_labels_MNK)).all()
