"""Linear discriminants: by hand, and against scikit-learn's.

Letters: B images fitted on, D features, P principal components, K labels.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from sign_ensemble.rejection.class_gaussians import hellinger_distances
from sign_ensemble.rejection.discriminants import fit_discriminants, linear_discriminants

pytestmark = pytest.mark.usefixtures("one_thread", "exact_products")


def drawn(images: int, features: int, labels: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Labels that differ in the first three features, of which the first spreads most."""
    rng = np.random.default_rng(seed)
    labels_B = np.arange(images) % labels
    values_BD = rng.normal(0, 1, (images, features)) * np.linspace(4, 1, features)
    values_BD[:, :3] += np.random.default_rng(9).normal(0, 8, (labels, 3))[labels_B]
    return values_BD, labels_B


def test_two_labels_by_hand() -> None:
    # the labels differ by 2 along both axes, and spread by 4 along the first and by 1 along the
    # second: the direction is W⁻¹ (2, 2), W = .9 diag(4, 1) + .1 · 2.5, in units of W
    values_BP = np.array([[2, 1], [-2, -1], [2, -1], [-2, 1]], float)
    both_BP = np.concatenate([values_BP, values_BP + 2])
    found = linear_discriminants(both_BP, np.repeat([3, 8], 4))
    assert found.shape == (2, 1)
    within = np.array([3.85, 1.15])
    expected = 1 / within
    expected /= np.sqrt((expected**2 * within).sum())
    assert np.abs(found[:, 0]) == pytest.approx(expected)
    assert found[0, 0] * found[1, 0] > 0


def test_one_less_than_labels_and_than_features() -> None:
    for features, labels, expected in ((10, 5, 4), (3, 8, 3), (10, 2, 1), (10, 1, 1)):
        values_BD, labels_B = drawn(80, features, labels, 0)
        assert linear_discriminants(values_BD, labels_B).shape == (features, expected)


def test_the_same_plane_as_scikit_learn() -> None:
    values_BD, labels_B = drawn(400, 12, 4, 1)
    found = linear_discriminants(values_BD, labels_B)
    theirs = LinearDiscriminantAnalysis(solver="eigen").fit(values_BD, labels_B)
    axes = theirs.scalings_[:, :3]
    # nearly: shrunk by a tenth here; scikit-learn's own shrinkage is of standardised features
    cosines = np.linalg.svd(np.linalg.qr(found)[0].T @ np.linalg.qr(axes)[0])[1]
    assert cosines.min() > 0.95


def test_best_first_and_of_variance_one_within_labels() -> None:
    values_BD, labels_B = drawn(900, 6, 4, 2)
    along = values_BD @ linear_discriminants(values_BD, labels_B)
    means = np.stack([along[labels_B == k].mean(0) for k in range(4)])
    between = means.var(0)
    assert (np.diff(between) < 0).all()
    within = (along - means[labels_B]).var(0)
    assert within == pytest.approx(np.ones(3), abs=0.25)  # of the shrunk covariance exactly


def test_gaussians_in_discriminants_read_new_images() -> None:
    values_BD, labels_B = drawn(300, 40, 5, 3)
    new_ND, truth_N = drawn(100, 40, 5, 4)
    fitted = fit_discriminants(torch.from_numpy(values_BD).float(), labels_B)
    assert fitted.axes_DP.shape == (40, 4)
    to_labels_NK, to_all_N = hellinger_distances(torch.from_numpy(new_ND).float(), fitted)
    assert np.mean(to_labels_NK.argmin(1) == truth_N) > 0.8
    # an image at a label's mean is at distance 0 from it
    at_means = torch.from_numpy(
        np.stack([values_BD[labels_B == k].mean(0) for k in range(5)])
    ).float()
    to_own = hellinger_distances(at_means, fitted)[0].diagonal()
    assert to_own == pytest.approx(np.zeros(5), abs=1e-4)
    assert to_all_N.shape == (100,)


def test_features_that_never_differ() -> None:
    values_BD, labels_B = drawn(60, 8, 3, 5)
    values_BD[:, 4:] = 0.25
    fitted = fit_discriminants(torch.from_numpy(values_BD).float(), labels_B)
    assert all(np.isfinite(values).all() for values in fitted.arrays().values())
