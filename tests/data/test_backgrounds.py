"""Backgrounds for augmented copies: each kind is what its name says, and follows from its draws."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from sign_ensemble.data import backgrounds
from sign_ensemble.data.backgrounds import (
    MAKERS,
    PHOTOGRAPHS,
    background,
    discs,
    gradient,
    photograph,
    photograph_of,
    plain,
    texture,
)
from sign_ensemble.data.far_ood import PHOTOGRAPHS as OF_EVALUATION

Maker = Callable[[int, np.random.Generator], np.ndarray]
KINDS: list[Maker] = [plain, gradient, texture, discs, photograph, background]
EACH = pytest.mark.parametrize("make", KINDS, ids=lambda make: make.__name__)


def several(make: Maker, n: int = 30, side: int = 64) -> list[np.ndarray]:
    return [make(side, np.random.default_rng([n, seed])) for seed in range(n)]


def steps(picture: np.ndarray) -> np.ndarray:
    """Greatest difference of neighbours, of each channel."""
    levels = picture.astype(int)
    return np.maximum(
        np.abs(np.diff(levels, axis=0)).max((0, 1)), np.abs(np.diff(levels, axis=1)).max((0, 1))
    )


@EACH
@pytest.mark.parametrize("side", [1, 17, 64, 700])
def test_any_side(make: Maker, side: int) -> None:
    picture = make(side, np.random.default_rng(side))
    assert picture.shape == (side, side, 3) and picture.dtype == np.uint8
    assert picture.flags.writeable and picture.flags.c_contiguous


@EACH
def test_the_draws_decide_it(make: Maker) -> None:
    first, again = several(make), several(make)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert len({picture.tobytes() for picture in first}) > 25


def test_a_plain_one_has_one_colour() -> None:
    drawn = several(plain, 200)
    assert all((picture == picture[0, 0]).all() for picture in drawn)
    colours = np.array([picture[0, 0] for picture in drawn]).astype(int)
    grey = (np.ptp(colours, axis=1) == 0).mean()
    assert 0.35 < grey < 0.65
    assert colours.min() < 20 and colours.max() > 235


def test_a_gradient_changes_smoothly() -> None:
    for picture in several(gradient):
        assert steps(picture).max() < 30
    assert np.mean([picture.std() for picture in several(gradient)]) > 25


def one_shade(picture: np.ndarray) -> bool:
    """Whether pixels differ in lightness alone; those at black or white say nothing."""
    pixels = picture.reshape(-1, 3)
    between = pixels[((pixels > 2) & (pixels < 253)).all(1)].astype(int)
    return bool((np.ptp(between - between[:, :1], axis=0) <= 2).all())


def test_a_texture_is_grainy() -> None:
    drawn = several(texture)
    assert np.mean([steps(picture).max() for picture in drawn]) > 30
    assert 0.4 < np.mean([one_shade(picture) for picture in drawn]) < 0.8


def test_discs_have_edges_and_flat_parts() -> None:
    for picture in several(discs, side=160):
        level = picture.astype(int)
        across = np.abs(np.diff(level, axis=1)).max(-1)
        assert (across <= 2).mean() > 0.2
        assert np.unique(picture.reshape(-1, 3), axis=0).shape[0] > 20


def test_a_photograph_is_a_part_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """A picture whose red channel is the column and whose green one is the row."""
    ramps = np.zeros((200, 250, 3), np.uint8)
    ramps[:, :, 0], ramps[:, :, 1] = np.arange(250), np.arange(200)[:, None]
    monkeypatch.setattr(backgrounds, "photograph_of", lambda name: ramps)
    mirrored, sides = 0, []
    for picture in several(photograph, 60, 50):
        column, row = picture[25, :, 0].astype(int), picture[:, 25, 1].astype(int)
        across, down = int(column[-1] - column[0]), int(row[-1] - row[0])
        mirrored += across < 0
        assert down > 0 and abs(abs(across) - down) <= 3  # a square, never upside down
        sides.append(down * 50 / 49)
    assert 15 < mirrored < 45
    assert 0.3 * 200 - 3 <= min(sides) < 100 and 150 < max(sides) <= 203


def test_photographs_are_not_those_of_the_evaluation() -> None:
    assert not set(PHOTOGRAPHS) & set(OF_EVALUATION)
    for name in PHOTOGRAPHS:
        pixels = photograph_of(name)
        assert pixels.ndim == 3 and min(pixels.shape[:2]) > 300 and pixels.std() > 30


def test_every_kind_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[int] = []

    def maker(number: int) -> Maker:
        def make(side: int, rng: np.random.Generator) -> np.ndarray:
            drawn.append(number)
            return np.zeros((side, side, 3), np.uint8)

        return make

    monkeypatch.setattr(backgrounds, "MAKERS", tuple(map(maker, range(len(MAKERS)))))
    rng = np.random.default_rng(0)
    for _ in range(700):
        backgrounds.background(8, rng)
    counts = np.bincount(drawn, minlength=len(MAKERS))
    assert set(MAKERS) == {plain, gradient, texture, discs, photograph}
    assert counts.min() > 60 and counts.max() < 140
