"""When landmarks can be learned from."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sign_ensemble.core.config import Config, EnsembleConfig
from sign_ensemble.pipeline.preparation import FoundHands, kinds_of

BOTH = ("pixels", "landmarks")


@pytest.mark.parametrize(
    ("found", "folds", "kinds", "words"),
    [
        (10, 2, BOTH, ""),
        (5, 3, BOTH, ""),
        (4, 3, BOTH[:1], "found in under half of the images: members read pixels alone"),
        # with that fold left out no hand would be left to learn from
        (9, 1, BOTH[:1], "found in one fold's images only: members read pixels alone"),
        (0, 0, BOTH[:1], "found in under half of the images: members read pixels alone"),
    ],
)
def test_hands_in_half_of_the_images_and_in_two_folds(
    found: int, folds: int, kinds: tuple[str, ...], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    hands = FoundHands(10, found, 0, folds)
    assert kinds_of(Config(), hands) == kinds
    hands.say()
    printed = " ".join(capsys.readouterr().out.split())
    assert words in printed
    assert ("pixels alone" in printed) == bool(words)


def test_without_landmarks_where_they_are_not_wanted() -> None:
    pixels = replace(Config(), ensemble=EnsembleConfig(kinds=("pixels",)))
    assert kinds_of(pixels, FoundHands(10, 10, 0, 3)) == ("pixels",)
    assert kinds_of(Config(), None) == ("pixels",)
