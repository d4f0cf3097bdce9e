"""Distances of fingertips and landmarks to labels: by hand, and of drawn hands of known labels.

Letters: N images, B images fitted on, D features, K labels, L labels that have a Gaussian.
"""

from __future__ import annotations

import numpy as np
import pytest

from sign_ensemble.data.backbone import (
    OF_LANDMARKS,
    TIPS,
    TIPS_FOURTH,
    TIPS_THIRD,
    HandFeatures,
)
from sign_ensemble.learning.task import Kind
from sign_ensemble.rejection.class_gaussians import ClassGaussians
from sign_ensemble.rejection.kind_distances import (
    COMPONENTS,
    READ_BY,
    KindDistances,
    KindGaussians,
    concatenate_kinds,
    fit_kind_gaussians,
    kind_distances,
    of_all_labels,
)
from sign_ensemble.rejection.regional_mahalanobis import RegionalGaussians

pytestmark = pytest.mark.usefixtures("one_thread", "exact_products")


def features(third: np.ndarray, fourth: np.ndarray, landmarks: np.ndarray, hands: np.ndarray):
    parts = [third, fourth, landmarks, hands[:, None]]
    return HandFeatures(np.concatenate(parts, 1).astype(np.float16))


# --- by hand --------------------------------------------------------------------------------------


def plane(width: int, means: list[tuple[float, float]], mean: tuple[float, float]):
    """Gaussians in the first two of so many features, all of variance 1: squared distances."""
    axes = np.zeros((width, 2), np.float32)
    axes[0, 0] = axes[1, 1] = 1
    unit = np.eye(2, dtype=np.float32)
    return ClassGaussians(
        centre_D=np.zeros(width, np.float32),
        axes_DP=axes,
        means_KP=np.array(means, np.float32),
        precisions_KPP=np.stack([unit] * len(means)),
        mean_P=np.array(mean, np.float32),
        precision_PP=unit,
    )


def gaussians(labels: list[int]) -> KindGaussians:
    """Of two labels. At every fingertip label 0's first map is active and label 1's second."""
    fifth = float(np.sqrt(1 / TIPS))  # a Hellinger feature has length 1 over all fingertips
    third, fourth = (
        plane(each // TIPS, [(fifth, 0), (0, fifth)], (0, 0)) for each in (TIPS_THIRD, TIPS_FOURTH)
    )
    scale = np.ones(OF_LANDMARKS, np.float32)
    scale[0] = 0.5
    landmarks = plane(OF_LANDMARKS, [(0, 0), (3, 0)], (0, 1))
    tips = RegionalGaussians((third,) * TIPS + (fourth,) * TIPS)
    # the thumb's first two maps in the third layer
    together = plane(TIPS_THIRD + TIPS_FOURTH, [(1, 0), (0, 1)], (0, 0))
    moved = plane(OF_LANDMARKS, [(1, 0), (0, 0)], (0, 0))
    return KindGaussians(np.array(labels), tips, scale, landmarks, together, moved)


def drawn() -> HandFeatures:
    """Three images: four fingers as label 0 has them in both layers, and one as label 1 has it;
    no hand; one whose fingers show the first map in the third layer and the second in the fourth.
    """
    third, fourth = np.zeros((3, TIPS_THIRD)), np.zeros((3, TIPS_FOURTH))
    for layer in (third, fourth):
        maps = layer.reshape(3, -1, TIPS)  # a map's values at the five fingertips
        maps[0, 0, :4], maps[0, 1, 4] = 9, 9  # how strong all maps are makes no difference
    third.reshape(3, -1, TIPS)[2, 0] = 4
    fourth.reshape(3, -1, TIPS)[2, 1] = 4
    landmarks = np.zeros((3, OF_LANDMARKS))
    landmarks[0, :2], landmarks[2, :2] = (2, 1), (6, -2)  # (1, 1) and (3, -2) when scaled
    landmarks[1] = 7
    return features(third, fourth, landmarks, np.array([1, 0, 2]))


def test_distances_by_hand() -> None:
    found = kind_distances(drawn(), gaussians([0, 1]), 2)
    # a finger's squared distance is 0 to its own label, .4 to the other, .2 to all images; ten
    # fingers of two layers are added up and halved: (8 · -.2 + 2 · .2) / 2, (8 · .2 + 2 · -.2) / 2
    assert found.tips_NK == pytest.approx(np.array([[-0.6, 0.6], [0, 0], [0, 0]]), abs=1e-5)
    # (1, 1): 1 + 1, 4 + 1, 1 + 0; (3, -2): 9 + 4, 0 + 4, 9 + 9
    assert found.landmarks_NK == pytest.approx(np.array([[1, 4], [0, 0], [-5, -14]]), abs=1e-5)
    # the thumb's value is √.2 in both images: (1 - √.2)² - .2 to label 0, .2 + 1 - .2 to label 1
    thumb = 1 - 2 * np.sqrt(0.2)
    expected = np.array([[thumb, 1], [0, 0], [thumb, 1]])
    assert found.tip_discriminants_NK == pytest.approx(expected, abs=1e-5)
    # (1, 1): 0 + 1, 1 + 1, 1 + 1; (3, -2): 4 + 4, 9 + 4, 9 + 4
    expected = np.array([[-1, 0], [0, 0], [-5, 0]])
    assert found.landmark_discriminants_NK == pytest.approx(expected, abs=1e-5)
    assert found.hands_N.tolist() == [1, 0, 2]


def test_a_label_without_a_gaussian_is_as_far_as_the_farthest() -> None:
    found = kind_distances(drawn(), gaussians([3, 1]), 5)
    assert found.tips_NK[0] == pytest.approx([0.6, 0.6, 0.6, -0.6, 0.6], abs=1e-5)
    assert found.landmarks_NK[0] == pytest.approx([4, 4, 4, 1, 4], abs=1e-5)
    assert found.landmarks_NK[2] == pytest.approx([-5, -14, -5, -5, -5], abs=1e-5)
    assert not found.tips_NK[1].any() and not found.landmarks_NK[1].any()


def test_all_labels_from_some() -> None:
    some = np.array([[1.0, 5.0], [-2.0, -7.0]])
    found = of_all_labels(some, np.array([0, 2]), 4)
    assert found.tolist() == [[1, 5, 5, 5], [-2, -2, -7, -2]]
    assert of_all_labels(some, np.array([0, 1]), 2).tolist() == some.tolist()


def test_no_image_has_a_hand() -> None:
    none = drawn().rows(np.array([1, 1]))
    found = kind_distances(none, gaussians([0, 1]), 3)
    assert found.tips_NK.shape == found.landmarks_NK.shape == (2, 3)
    assert not found.tips_NK.any() and not found.landmarks_NK.any()
    assert kind_distances(drawn().rows(np.arange(0)), gaussians([0, 1]), 3).tips_NK.shape == (0, 3)


def test_some_images_and_several_sets() -> None:
    found = kind_distances(drawn(), gaussians([0, 1]), 2)
    for chosen in (np.array([2, 0]), np.array([True, False, True])):
        some = found.rows(chosen)
        for name, values in vars(some).items():
            assert np.array_equal(values, getattr(found, name)[chosen])
    again = concatenate_kinds([found.rows(np.array([0])), found.rows(np.array([1, 2]))])
    assert isinstance(again, KindDistances)
    for name, values in vars(again).items():
        assert np.array_equal(values, getattr(found, name))


# --- fitted ---------------------------------------------------------------------------------------


def hands(labels: np.ndarray, seed: int, of_tips: np.ndarray | None = None) -> HandFeatures:
    """Noisy hands of these labels, by their landmarks; and of others by their fingertips."""
    rng = np.random.default_rng(seed)
    n, shown = len(labels), labels if of_tips is None else of_tips
    layers = []
    for width in (TIPS_THIRD, TIPS_FOURTH):
        maps = rng.uniform(0, 2, (n, width // TIPS, TIPS))
        for k in range(3):
            maps[shown == k, 10 * k : 10 * k + 10] += 4
        layers.append(maps.reshape(n, width))
    centres = np.random.default_rng(99).normal(0, 1, (3, OF_LANDMARKS))
    landmarks = centres[labels] + rng.normal(0, 0.5, (n, OF_LANDMARKS))
    landmarks[:, 7] = 0.25  # never differs
    landmarks[:, 100:] *= 20  # distances of another unit
    return features(layers[0], layers[1], landmarks, np.ones(n))


LABELS = np.repeat([0, 1, 2], 25)


@pytest.fixture(scope="module")
def fitted() -> KindGaussians:
    found = fit_kind_gaussians(hands(LABELS, 0), LABELS)
    assert found is not None
    return found


def test_a_hand_is_nearest_to_its_own_label(fitted: KindGaussians) -> None:
    found = kind_distances(hands(LABELS, 1), fitted, 3)
    for to_labels in found.to_labels:
        assert (to_labels.argmin(1) == LABELS).all()
        assert np.isfinite(to_labels).all()


def test_each_kind_reads_its_own_features(fitted: KindGaussians) -> None:
    other = (LABELS + 1) % 3
    found = kind_distances(hands(LABELS, 1, of_tips=other), fitted, 3)
    shown: dict[Kind, np.ndarray] = {"pixels": other, "landmarks": LABELS}
    for kind, to_labels in zip(READ_BY * 2, found.to_labels, strict=True):
        assert (to_labels.argmin(1) == shown[kind]).all()


def test_what_is_fitted(fitted: KindGaussians) -> None:
    assert fitted.labels_L.tolist() == [0, 1, 2]
    assert len(fitted.tips.regions) == 2 * TIPS
    assert fitted.landmarks.means_KP.shape == (3, COMPONENTS)
    assert fitted.tip_discriminants.axes_DP.shape == (TIPS_THIRD + TIPS_FOURTH, 2)
    assert fitted.landmark_discriminants.axes_DP.shape == (OF_LANDMARKS, 2)
    values = hands(LABELS, 0).landmarks_ND.astype(np.float64)
    moving = values.std(0) > 0
    assert fitted.scale_D[moving] == pytest.approx(1 / values.std(0)[moving], rel=1e-3)
    assert moving.sum() == OF_LANDMARKS - 1 and np.isfinite(fitted.scale_D).all()


def test_images_without_a_hand_do_not_count(fitted: KindGaussians) -> None:
    seen, rng = hands(LABELS, 0), np.random.default_rng(5)
    nothing = np.zeros((10, seen.all_ND.shape[1]), np.float16)
    both = HandFeatures(np.concatenate([nothing, seen.all_ND]))
    labels = np.concatenate([rng.integers(0, 9, 10), LABELS])  # labels that no hand shows
    again = fit_kind_gaussians(both, labels)
    assert again is not None
    assert again.labels_L.tolist() == [0, 1, 2]
    for name, values in fitted.arrays().items():
        assert np.array_equal(again.arrays()[name], values), name
    assert fit_kind_gaussians(HandFeatures(nothing), labels[:10]) is None


def test_labels_keep_their_numbers() -> None:
    named = np.array([2, 5, 6])[LABELS]
    found = fit_kind_gaussians(hands(LABELS, 0), named)
    assert found is not None and found.labels_L.tolist() == [2, 5, 6]
    distances = kind_distances(hands(LABELS, 1), found, 8)
    for to_labels in distances.to_labels:
        assert (to_labels.argmin(1) == named).all()
        without = to_labels[:, [0, 1, 3, 4, 7]]
        assert (without == to_labels.max(1, keepdims=True)).all()


def test_arrays_and_back(fitted: KindGaussians) -> None:
    arrays = fitted.arrays()
    assert all(isinstance(values, np.ndarray) for values in arrays.values())
    again = KindGaussians.of_arrays(dict(reversed(arrays.items())))
    assert again.arrays().keys() == arrays.keys()
    for name, values in again.arrays().items():
        assert np.array_equal(values, arrays[name]), name
    first, second = (kind_distances(hands(LABELS, 1), each, 3) for each in (fitted, again))
    assert all(map(np.array_equal, first.to_labels, second.to_labels))


def test_an_image_alone_is_as_far_as_among_others(fitted: KindGaussians) -> None:
    every = hands(LABELS, 1)
    together = kind_distances(every, fitted, 3)
    for i in (0, 30, 74):
        alone = kind_distances(every.rows(np.array([i])), fitted, 3)
        for one, every_NK in zip(alone.to_labels, together.to_labels, strict=True):
            assert one[0] == pytest.approx(every_NK[i], rel=1e-4, abs=1e-3)
