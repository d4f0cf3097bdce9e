"""Negatives: each made of what it says, deterministic, and none of a test set's kind."""

import numpy as np
import pytest

from sign_ensemble.data import far_ood, negatives
from sign_ensemble.data.negatives import NEGATIVES, hand_box, negative_images

SIDE = 60
LABELS = np.array(["a", "a", "b", "b", "c", "c"])


def signs(side: int = SIDE) -> np.ndarray:
    """Six bright noisy blobs on black, each at its own place: hardly two pixels are alike."""
    rng = np.random.default_rng(0)
    images = np.zeros((6, side, side, 3), np.uint8)
    for i in range(6):
        top, left = rng.integers(0, side // 4, 2)
        high, wide = rng.integers(side // 2, 3 * side // 4, 2)
        blob = rng.integers(100, 250, (high, wide, 3), dtype=np.uint8)
        images[i, top : top + high, left : left + wide] = blob
    return images


def rng() -> np.random.Generator:
    return np.random.default_rng(1)


def sources(image: np.ndarray, candidates: np.ndarray) -> list[np.ndarray]:
    """For each candidate, which pixels of the image equal its own."""
    return [(image == candidate).all(-1) for candidate in candidates]


def test_all_kinds_have_the_images_shape_and_fewer_are_the_start_of_more() -> None:
    few, many = (negative_images(n, 3, signs(), LABELS) for n in (4, 9))
    assert set(few) == set(NEGATIVES)
    for name in NEGATIVES:
        assert many[name].shape == (9, SIDE, SIDE, 3)
        assert many[name].dtype == np.uint8
        assert np.array_equal(few[name], many[name][:4]), name


def test_seed_decides_and_signs_stay_untouched() -> None:
    x = signs()
    one, again, other = (negative_images(5, seed, x, LABELS) for seed in (1, 1, -2))
    assert np.array_equal(x, signs())
    for name in NEGATIVES:
        assert np.array_equal(one[name], again[name])
        assert not np.array_equal(one[name], other[name])


def test_no_kind_is_a_test_set() -> None:
    assert not set(NEGATIVES) & set(far_ood.FAR_SETS)


def test_kinds_of_two_labels_refuse_one() -> None:
    with pytest.raises(ValueError, match="one label"):
        negative_images(5, 0, signs(), np.array(["a"] * 6))


def test_pairs_differ_in_label_and_every_row_comes_first_once() -> None:
    chosen = list(negatives.pairs(12, rng(), LABELS))
    assert all(LABELS[a] != LABELS[b] for a, b in chosen)
    assert sorted(a for a, _ in chosen[:6]) == list(range(6))


def test_hand_box_finds_a_drawn_hand_and_takes_all_of_an_empty_image() -> None:
    image = np.full((100, 100, 3), 230, np.uint8)
    assert hand_box(image) == (0, 100, 0, 100)
    image[20:71, 30:61] = (180, 120, 100)
    top, bottom, left, right = hand_box(image)
    assert (top, bottom, left, right) == pytest.approx((20, 71, 30, 61), abs=2)


def test_hand_box_is_what_its_sentence_says_of_pixels_of_any_kind() -> None:
    """Against the sentence spelled out in numpy: medians between two levels, noise, few pixels."""
    draw = rng()
    for i in range(60):
        image = draw.integers(0, 256, (int(draw.integers(8, 50)),) * 2 + (3,), np.uint8)
        if i % 3 == 1:  # a flat ground with some noise, and a hand
            image = (image // 16 + draw.integers(0, 240, 3)).astype(np.uint8)
            image[3:6, 2:7] = draw.integers(0, 256, 3)
        if i % 3 == 2:  # specks
            image = image * (draw.random((*image.shape[:2], 1)) < 0.1).astype(np.uint8)
        edge = np.concatenate([image[[0, -1]].reshape(-1, 3), image[:, [0, -1]].reshape(-1, 3)])
        away = np.abs(image.astype(float) - np.median(edge, 0)).max(-1)
        rows, columns = np.nonzero(away > 40)
        expected = [0, len(image), 0, len(image)]
        if len(rows) >= len(image):
            ends = [np.quantile(each, (0.02, 0.98)).astype(int) for each in (rows, columns)]
            expected = [end + late for pair in ends for late, end in enumerate(pair.tolist())]
        assert list(hand_box(image)) == expected


def test_halves_are_two_signs_of_two_labels_on_two_sides() -> None:
    x = signs()
    for image in negatives.halves(12, rng(), x, LABELS):
        equal = sources(image, x)
        best = max(
            (equal[a] | equal[b]).mean()
            for a in range(6)
            for b in range(6)
            if LABELS[a] != LABELS[b]
        )
        assert best == 1
        assert max(e.mean() for e in equal) < 1


def test_blends_lie_between_their_signs() -> None:
    flat = np.stack([np.full((8, 8, 3), level, np.uint8) for level in (0, 200)])
    for image in negatives.blends(50, rng(), flat, np.array([0, 1])):
        assert image.std() == 0
        assert 80 <= image[0, 0, 0] <= 120


@pytest.mark.parametrize("side", [60, 63])
def test_shuffled_keeps_all_pixels_but_not_their_places(side: int) -> None:
    x = signs(side)
    kept = [np.sort(image.reshape(-1, 3), 0) for image in x]
    for image in negatives.shuffled(12, rng(), x, LABELS):
        assert any(np.array_equal(np.sort(image.reshape(-1, 3), 0), pixels) for pixels in kept)
        assert not any(np.array_equal(image, original) for original in x)


def test_swaps_change_a_quarter_to_four_tenths_of_the_hands_box() -> None:
    x = np.stack([np.full((60, 60, 3), level, np.uint8) for level in (50, 60)])
    for image in negatives.swaps(40, rng(), x, np.array(["a", "b"])):
        values, counts = np.unique(image, return_counts=True)
        assert set(values) == {50, 60}
        changed = counts.min() / counts.sum()
        assert 0.24 < changed < 0.42
        commoner = values[counts.argmax()]
        assert (image[30:] == commoner).sum() > (image[:30] == commoner).sum()


def test_phases_keep_the_amplitudes_and_lose_the_picture() -> None:
    soft = np.random.default_rng(2).integers(110, 146, (3, 64, 64, 3), dtype=np.uint8)
    for image in negatives.phases(6, rng(), soft, LABELS[:3]):
        spectrum = np.abs(np.fft.rfft2(image, axes=(0, 1)))
        # rounding adds white noise of variance 1/12 per pixel, so about sqrt(64 * 64 / 12) = 18
        errors = [
            np.abs(spectrum - np.abs(np.fft.rfft2(source, axes=(0, 1)))).mean() for source in soft
        ]
        assert min(errors) < 2 * 64 / np.sqrt(12)
        assert sorted(errors)[1] > 5 * min(errors)
        source = soft[int(np.argmin(errors))]
        assert abs(np.corrcoef(image.ravel(), source.ravel())[0, 1]) < 0.2


def test_phases_keep_grey_grey() -> None:
    grey = np.random.default_rng(2).integers(100, 156, (1, 32, 32, 1), dtype=np.uint8)
    image = negatives.phases(1, rng(), np.repeat(grey, 3, -1), LABELS[:1])[0]
    assert np.array_equal(image[..., 0], image[..., 1])


def test_polygons_have_few_colours_and_are_never_blank() -> None:
    x = np.zeros((1, 80, 80, 3), np.uint8)
    counts = []
    for image in negatives.polygons(60, rng(), x, LABELS[:1]):
        colours, sizes = np.unique(image.reshape(-1, 3), axis=0, return_counts=True)
        counts.append(len(colours))
        assert sizes.max() <= negatives.MOST_FLAT * image[..., 0].size
        assert image.std((0, 1)).max() >= negatives.LEAST_SD
    assert min(counts) == 2
    assert 8 < max(counts) <= 13
