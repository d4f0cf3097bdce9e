"""numpy's pixels are those of OpenCV and torch, bit for bit, and known ones.

Letters: H and W rows and columns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import cos, pi, sin

import numpy as np
import pytest
from numpy.typing import NDArray
from rendered_hands import rendered_hand

from sign_ensemble.core import numpy_resampling, resampling
from sign_ensemble.data.far_ood import picture

Pixels = NDArray[np.uint8]
Resize = Callable[[Pixels, int, int], Pixels]
SIDES = (61, 96, 224)  # of a warped square: OpenCV computes 16 columns at once
TIMES = 24  # pictures of each test


@pytest.fixture(scope="module")
def pictures() -> list[Pixels]:
    """A rendered hand, photographs, and noise, in which every rounding shows."""
    noise = np.random.default_rng(0).integers(0, 256, (300, 400, 3), dtype=np.uint8)
    return [rendered_hand("b"), picture("coffee.png"), picture("astronaut.png"), noise]


def parts(pictures: list[Pixels], rng: np.random.Generator) -> Iterator[Pixels]:
    """Rectangles of pictures, of sides from 20 to 300."""
    for number in range(TIMES):
        rgb_HW3 = pictures[number % len(pictures)]
        high, wide = rng.integers(20, 300, 2).clip(None, rgb_HW3.shape[:2])
        top, left = (
            int(rng.integers(0, long - short + 1))
            for long, short in zip(rgb_HW3.shape, (high, wide), strict=False)
        )
        yield rgb_HW3[top : top + high, left : left + wide]


def check(name: str, rgb_HW3: Pixels, *how: object) -> None:
    expected = getattr(resampling, name)(rgb_HW3, *how)
    found = getattr(numpy_resampling, name)(rgb_HW3, *how)
    assert found.dtype == np.uint8 and found.flags.c_contiguous and found.flags.writeable
    assert np.array_equal(found, expected), (
        f"{name} of {rgb_HW3.shape}: {(found != expected).mean():.2e} of the values differ"
    )


def test_enlarged_pictures_are_equal(pictures: list[Pixels]) -> None:
    rng = np.random.default_rng(1)
    for part in parts(pictures, rng):
        height, width = (int(rng.integers(side, 3 * side)) for side in part.shape[:2])
        check("resize_linear", part, height, width)
        check("resize_linear", part, *part.shape[:2])


def test_shrunk_pictures_are_equal(pictures: list[Pixels]) -> None:
    rng = np.random.default_rng(2)
    for part in parts(pictures, rng):
        height, width = (int(rng.integers(4, side + 1)) for side in part.shape[:2])
        check("resize_area", part, height, width)


@pytest.mark.parametrize("times", [1, 2, 3, 4, 7])
def test_pictures_shrunk_to_a_part_of_a_number_are_equal(
    times: int, pictures: list[Pixels]
) -> None:
    for part in parts(pictures, np.random.default_rng(times)):
        height, width = (side // times for side in part.shape[:2])
        check("resize_area", part[: height * times, : width * times], height, width)


def test_antialiased_pictures_are_equal(pictures: list[Pixels]) -> None:
    """Smaller in both directions, in one, or in neither."""
    rng = np.random.default_rng(3)
    for part in parts(pictures, rng):
        most = rng.choice([1, 2], 2)
        height, width = (
            int(rng.integers(4, times * side + 1))
            for times, side in zip(most, part.shape, strict=False)
        )
        check("resize_antialiased", part, height, width)
        check("resize_antialiased", part, part.shape[0], width)


def test_warped_pictures_are_equal(pictures: list[Pixels]) -> None:
    """Turned, scaled, mirrored, and partly or all beyond the picture."""
    rng = np.random.default_rng(4)
    for number, part in enumerate(parts(pictures, rng)):
        side, angle = SIDES[number % 3], rng.uniform(0, 2 * pi) if number % 4 else 0.0
        turn = [[cos(angle), -sin(angle)], [sin(angle), cos(angle)]]
        linear = rng.uniform(0.2, 2) * np.array(turn) * [rng.choice([-1, 1]), 1]
        middle = np.array(part.shape[1::-1]) / 2 + rng.uniform(-150, 150, 2)
        to_source_23 = np.column_stack([linear, middle - linear.sum(1) * side / 2])
        colour = tuple(rng.integers(0, 511, 3) / 2)
        check("warp_affine", np.ascontiguousarray(part), to_source_23, side, colour)


def test_of_one_row_or_column() -> None:
    line = np.arange(0, 240, 4, dtype=np.uint8).reshape(1, 20, 3)
    for rgb_HW3 in (line, line.swapaxes(0, 1)):
        check("resize_linear", rgb_HW3, 30, 30)
        check("resize_antialiased", rgb_HW3, 7, 7)
        check("resize_area", rgb_HW3, 1, 1)


@pytest.mark.parametrize("module", [resampling, numpy_resampling])
def test_known_pixels(module: object) -> None:
    def of(name: str) -> Resize:
        return getattr(module, name)

    ramp = np.repeat(np.arange(0, 240, 10, dtype=np.uint8)[None, :, None], 3, 2)
    ramp = np.repeat(ramp, 24, 0)
    assert of("resize_area")(ramp, 8, 8)[0, :, 0].tolist() == [*range(10, 250, 30)]
    shrunk = of("resize_antialiased")(ramp, 12, 12)[5, 1:-1, 0].tolist()
    assert shrunk == [*range(25, 225, 20)]
    doubled = of("resize_linear")(ramp, 48, 48)[7, :5, 0].tolist()
    assert doubled == pytest.approx([0, 2.5, 7.5, 12.5, 17.5], abs=0.5)
    shifted = np.array([[1.0, 0, -2], [0, 1, 0.5]])
    warped = module.warp_affine(ramp, shifted, 8, (1.0, 2.5, 3.5))  # type: ignore[attr-defined]
    assert warped[:, 0].tolist() == [[1, 2, 4]] * 8  # halves become even
    assert warped[:, 2:, 0].tolist() == [[0, 10, 20, 30, 40, 50]] * 8
