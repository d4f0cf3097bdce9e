"""Augmented copies: reproducible to the bit, within their ranges, and nothing invented."""

import hashlib
import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from sign_ensemble.data import augmentation
from sign_ensemble.data.augmentation import RANGES, AugmentationRanges, augment

STILL = AugmentationRanges(
    rotation=0,
    scale=(1, 1),
    translation=0,
    corners=0,
    contrast=(1, 1),
    gamma=(1, 1),
    brightness=(1, 1),
    gain=(1, 1),
)


def images(n: int, side: int = 65) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (n, side, side, 3), dtype=np.uint8)


def keys(n: int) -> list[str]:
    return [hashlib.sha256(str(i).encode()).hexdigest() for i in range(n)]


def test_copy_0_is_the_image_itself() -> None:
    x = images(3)
    assert augment(x, keys(3), 0, True) is x


def test_a_copy_does_not_depend_on_its_batch() -> None:
    x, k = images(21), keys(21)
    together = augment(x, k, 2, True)
    alone = np.concatenate([augment(x[i : i + 1], k[i : i + 1], 2, True) for i in range(21)])
    assert np.array_equal(together, alone)
    turned = augment(x[::-1], k[::-1], 2, True)
    assert np.array_equal(together, turned[::-1])


def test_keys_and_numbers_decide_and_positions_do_not() -> None:
    x = np.repeat(images(1), 4, 0)
    a, b, c, d = augment(x, ["one", "two", "one", "three"], 1, False)
    assert np.array_equal(a, c)
    assert not np.array_equal(a, b)
    assert not np.array_equal(a, d)
    assert not np.array_equal(a, augment(x[:1], ["one"], 2, False)[0])


def test_draws_are_a_fixed_stream_on_every_machine() -> None:
    draws = augmentation.uniforms(["a", "b"], 1)
    stream = hashlib.shake_256(b"b:1").digest(8)
    assert draws[1, 0] == (int.from_bytes(stream, "little") >> 11) / 2**53
    many = augmentation.uniforms(keys(500), 3)
    assert many.shape == (500, augmentation.DRAWS)
    assert many.min() >= 0
    assert many.max() < 1
    assert np.abs(many.mean(0) - 0.5).max() < 5 * np.sqrt(1 / 12 / 500)


def test_arrays_and_tensors_give_the_same_and_stay_untouched() -> None:
    x, k = images(5), keys(5)
    before = x.copy()
    x.flags.writeable = False
    from_array = augment(x, k, 1, True)
    from_tensor = augment(torch.from_numpy(before), k, 1, True)
    assert isinstance(from_tensor, torch.Tensor)
    assert from_tensor.dtype == torch.uint8
    assert from_array.dtype == np.uint8
    assert from_array.shape == x.shape
    assert np.array_equal(from_array, from_tensor.numpy())
    assert np.array_equal(x, before)


def test_without_any_range_a_copy_is_the_image() -> None:
    x = images(9)
    assert np.array_equal(augment(x, keys(9), 1, False, STILL), x)


def test_mirrors_only_when_allowed_and_then_about_half() -> None:
    x, k = np.repeat(images(1, 64), 200, 0), keys(200)
    assert np.array_equal(augment(x, k, 1, False, STILL), x)
    mirrored = augment(x, k, 1, True, STILL)
    flipped = (mirrored == x[:, :, ::-1]).all((1, 2, 3))
    same = (mirrored == x).all((1, 2, 3))
    assert (flipped ^ same).all()
    assert 70 < flipped.sum() < 130


def test_mirroring_changes_no_other_draw() -> None:
    x, k = images(8), keys(8)
    off = augment(x, k, 1, True, replace(RANGES, mirror=0.0))
    assert np.array_equal(off, augment(x, k, 1, False))


def test_black_stays_black_and_flat_stays_flat() -> None:
    black = np.zeros((20, 63, 63, 3), np.uint8)
    assert not augment(black, keys(20), 1, True).any()
    grey = np.full((20, 63, 63, 3), 100, np.uint8)
    augmented = augment(grey, keys(20), 1, True)
    assert (augmented.std((1, 2)) == 0).all()
    # contrast leaves the mean alone; gamma, brightness and gain reach this far and no further
    low = 255 * 0.75 * 0.9 * (100 / 255) ** 1.3
    high = 255 * 1.3 * 1.1 * (100 / 255) ** 0.75
    assert low - 1 <= augmented.min()
    assert augmented.max() <= high + 1
    assert len(np.unique(augmented[:, 0, 0, 0])) > 10


def drawn(**values: float) -> np.ndarray:
    """One row of draws, all in the middle but these positions (named d<index>)."""
    draws = np.full((1, augmentation.DRAWS), 0.5)
    for name, value in values.items():
        draws[0, int(name[1:])] = value
    return draws


@pytest.mark.parametrize(
    ("ranges", "draws", "place", "read_at"),
    [
        (STILL, drawn(), (0.3, -0.7), (0.3, -0.7)),
        (replace(STILL, translation=0.1), drawn(d2=1.0), (0.2, 0.0), (0.0, 0.0)),
        (replace(STILL, translation=0.1), drawn(d3=0.0), (0.0, -0.2), (0.0, 0.0)),
        (replace(STILL, scale=(0.5, 2)), drawn(d1=0.0), (0.25, 0.5), (0.5, 1.0)),
        # y points down, so a turn by 90 degrees takes the right-hand side to the bottom
        (replace(STILL, rotation=90), drawn(d0=1.0), (0.0, 1.0), (1.0, 0.0)),
        (replace(STILL, corners=0.05), drawn(d4=1.0, d5=0.0), (-1.0, -1.0), (-0.9, -1.1)),
        (replace(STILL, corners=0.05), drawn(d4=1.0, d5=0.0), (1.0, 1.0), (1.0, 1.0)),
    ],
)
def test_places_are_read_where_geometry_says(
    ranges: AugmentationRanges,
    draws: np.ndarray,
    place: tuple[float, float],
    read_at: tuple[float, float],
) -> None:
    h = augmentation.homographies(draws, False, ranges)[0]
    u, v, w = h @ (*place, 1)
    assert (u / w, v / w) == pytest.approx(read_at, abs=1e-12)


def test_a_shift_moves_pixels_and_repeats_the_edge(monkeypatch: pytest.MonkeyPatch) -> None:
    x = images(1, 60)
    monkeypatch.setattr(augmentation, "uniforms", lambda keys, augmentation: drawn(d2=1.0))
    moved = augment(x, ["k"], 1, False, replace(STILL, translation=0.1))
    assert np.array_equal(moved[:, :, 6:], x[:, :, :-6])
    assert np.array_equal(moved[:, :, :6], np.repeat(x[:, :, :1], 6, 2))


@pytest.mark.parametrize(("light", "most"), [(STILL, 1), (RANGES, 3)])  # light enlarges a level
def test_both_samplers_read_alike(light: AugmentationRanges, most: int) -> None:
    x, k = images(12, 96), keys(12)  # noise: what a misplaced sampler differs on most
    tone = {name: getattr(light, name) for name in ("contrast", "gamma", "brightness", "gain")}
    ranges = replace(RANGES, **tone)
    by_torch = augmentation.by_torch(torch.from_numpy(x), k, 1, True, ranges).numpy()
    difference = np.abs(augment(x, k, 1, True, ranges).astype(int) - by_torch)
    assert difference.max() <= most
    assert (difference > 0).mean() < 0.01


def test_light_and_a_table_are_looked_up_at_once() -> None:
    x, k = images(3), keys(3)
    levels_out = np.random.default_rng(1).normal(size=(1, 256, 3)).astype(np.float32)
    into = np.empty(x.shape, np.float32)
    augmentation.by_opencv(list(x), k, 1, True, RANGES, list(into), levels_out)
    expected = levels_out[0][augment(x, k, 1, True), np.arange(3)]
    assert np.array_equal(into, expected)


def test_tone_curves_by_hand() -> None:
    ranges = replace(STILL, contrast=(1, 4), gamma=(1, 4), brightness=(1, 4))
    curve, gains = augmentation.tone_curves(
        drawn(d13=0.5, d14=0.5, d15=0.5), np.array([0.4]), ranges
    )
    for level in (0, 100, 102, 110, 255):  # contrast 2 about 0.4, then squared, then doubled
        share = min(max(0.4 + 2 * (level / 255 - 0.4), 0), 1)
        assert curve[0, level] == pytest.approx(2 * 255 * share**2)
    assert gains == pytest.approx(1)


def test_settings_are_plain_and_differ_between_ranges() -> None:
    assert json.dumps(augmentation.range_settings()) != json.dumps(
        augmentation.range_settings(STILL)
    )
    assert augmentation.range_settings()["version"] == augmentation.VERSION


def test_refuses_other_numbers_of_keys_and_negative_numbers() -> None:
    with pytest.raises(ValueError, match="2 keys for 3 images"):
        augment(images(3), keys(2), 1, False)
    with pytest.raises(ValueError, match="augmentation is -1"):
        augment(images(3), keys(3), -1, False)
    assert augment(images(3)[:0], [], 1, False).shape == (0, 65, 65, 3)
