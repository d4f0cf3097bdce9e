"""What scores are computed from: each distance is that of its own model."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from reference_sets import features_of, reference_set

from sign_ensemble.rejection.nearest_neighbours import NearestNeighbours
from sign_ensemble.rejection.reference_set import fit_distance_models, mahalanobis_distances
from sign_ensemble.rejection.score_models import ScoreModels

KNOWN = reference_set(0)
REFERENCE_BD = KNOWN.fifth_BVD[:, 0]


@pytest.mark.usefixtures("exact_products")
def test_distances_are_those_of_each_model() -> None:
    features, fitted = features_of(reference_set(1)), fit_distance_models(KNOWN, True)
    models = ScoreModels(fitted, REFERENCE_BD, neighbours=3)
    found = models.distances(features, [], 3)
    by_hand = NearestNeighbours.of(REFERENCE_BD).distances(features.fifth_ND, 3)
    assert np.array_equal(found.knn_N, by_hand)
    regional_N, to_labels_MNK, _ = mahalanobis_distances(features, fitted, 3)
    assert np.array_equal(found.regional_N, regional_N)
    assert np.array_equal(found.to_labels_MNK, to_labels_MNK)
    assert found.kinds is None  # hands are not used
    assert fitted.hand_count is not None and found.hand_count_N2 is not None
    assert np.array_equal(found.hand_count_N2, fitted.hand_count.scores(features.fifth_ND))
    assert models.nearest is models.nearest  # computed once


def test_the_gda_of_members_takes_the_place_of_the_layers() -> None:
    features = features_of(reference_set(1))
    models = ScoreModels(fit_distance_models(KNOWN, False), REFERENCE_BD, neighbours=3)
    of_members = [np.full((72, 3), 1.0), np.full((72, 3), 2.0), np.full((72, 3), 3.0)]
    found = models.distances(features, of_members, 3)
    assert np.array_equal(found.to_labels_MNK, np.stack(of_members))


def test_without_a_detector_there_is_no_hand_count() -> None:
    fitted = fit_distance_models(replace(KNOWN, pictures=None), False)
    models = ScoreModels(fitted, REFERENCE_BD, neighbours=3)
    assert models.distances(features_of(reference_set(1)), [], 3).hand_count_N2 is None
