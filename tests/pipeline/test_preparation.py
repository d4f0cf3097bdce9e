"""When landmarks can be learned from, and folds of images without signers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from sign_ensemble.core.config import Config, DataConfig, EnsembleConfig
from sign_ensemble.data import manifest
from sign_ensemble.pipeline.evaluation import set_of
from sign_ensemble.pipeline.preparation import FoundHands, kinds_of, training_folds

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


def test_without_signers_neighbouring_files_share_a_fold(tmp_path: Path) -> None:
    """Frame 10 follows 9, although 10 sorts before it as text."""
    for label in "AB":
        (tmp_path / label).mkdir()
        for n in range(1, 17):
            Image.effect_noise((20, 20), 100).save(tmp_path / label / f"{label}{n}.png")
    data = DataConfig(root=str(tmp_path), preset="label", signers="none")
    listed = manifest.build(data)
    labels_N, folds_N, names = training_folds(replace(Config(), data=data), listed)
    assert names == ("block-0", "block-1", "block-2", "block-3")
    paths = listed.rows("train")["path"].to_pylist()
    fold_of = dict(zip(paths, folds_N.tolist(), strict=True))
    for label in "AB":
        found = [fold_of[f"{label}/{label}{n}.png"] for n in range(1, 13)]
        assert found == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]
    assert labels_N.tolist() == [0] * 12 + [1] * 12


def test_a_far_label_may_have_the_name_of_a_built_in_set() -> None:
    assert (set_of("nothing"), set_of("blank")) == ("nothing", "label blank")
