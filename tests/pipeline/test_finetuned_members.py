"""What fine-tuning learns from, and which trials' fold models predict which folds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from sign_ensemble.core.config import Config, DataConfig, RunConfig
from sign_ensemble.core.names import Name
from sign_ensemble.data.images import read_image
from sign_ensemble.learning.task import NO_FOLD
from sign_ensemble.pipeline.finetuned_members import fold_model_seats, pixel_task
from sign_ensemble.pipeline.hand_count_pictures import hand_count_images
from sign_ensemble.pipeline.preparation import prepare


@pytest.mark.parametrize(
    ("votes", "folds", "rounds", "expected"),
    [
        ({7: 1}, 3, 1, [(7, 0), (7, 1), (7, 2)]),
        ({7: 1, 2: 1}, 3, 1, [(7, 0), (2, 1), (7, 2)]),
        ({7: 1, 2: 1, 9: 1, 4: 1}, 3, 1, [(7, 0), (2, 1), (9, 2)]),
        ({7: 2, 2: 1}, 2, 2, [(7, 0), (7, 1), (2, 0), (7, 1)]),
    ],
)
def test_every_fold_has_its_fold_models_and_the_best_trials_come_first(
    votes: dict[int, int], folds: int, rounds: int, expected: list[tuple[int, int]]
) -> None:
    assert fold_model_seats(votes, folds, rounds) == expected


def two_labels(signs_folder: Path, home: Path, **more: Any) -> Config:
    """A run on two labels, ada held out."""
    data = DataConfig(
        root=str(signs_folder), labels=[Name("bar"), Name("disc")], test_signers=[Name("ada")],
        size=63, crop="none", augmentations=0, weights="random", engine="local", **more,
    )  # fmt: skip
    return Config(data=data, run=RunConfig(root=str(home / "runs")))


def test_extra_signers_are_learned_from_and_belong_to_no_fold(
    signs_folder: Path, tmp_path: Path
) -> None:
    for file in sorted(signs_folder.glob("dan/*/[01].png")):
        copy = tmp_path / "extra" / "eve" / file.parent.name / file.name
        copy.parent.mkdir(parents=True, exist_ok=True)
        ImageOps.mirror(Image.open(file)).save(copy)
    config = two_labels(signs_folder, tmp_path, extra_signers=str(tmp_path / "extra"))
    prepared = prepare(config)
    own = len(prepared.task.labels_N)
    assert own == 3 * 2 * 6
    task = pixel_task(prepared)
    assert task.folds_N.tolist() == [*prepared.task.folds_N, *[NO_FOLD] * 4]
    assert task.labels_N[own:].tolist() == [0, 0, 1, 1]
    files = [tmp_path / f"extra/eve/{name}.png" for name in ("bar/0", "bar/1", "disc/0", "disc/1")]
    shown = task.pixels.open()[task.pixels.row_N[own:]]
    assert np.array_equal(shown, np.stack([read_image(file, config.data) for file in files]))
    for fold in (-1, 0):  # a member; the fold model of fold 0
        learned = set(np.flatnonzero(task.folds_N != fold))
        assert set(range(own, own + 4)) <= learned


def test_hand_count_pictures_are_made_once_of_every_fold(
    signs_folder: Path, tmp_path: Path
) -> None:
    config = two_labels(signs_folder, tmp_path)
    config = replace(config, rejection=replace(config.rejection, hand_count_images=10))
    prepared = prepare(config)
    pictures = hand_count_images(prepared)
    assert pictures
    assert np.bincount(pictures.hands_B).tolist() == [30, 30, 30]  # 10 of each from three folds
    assert np.bincount(pictures.groups_B).tolist() == [30, 30, 30]
    written = Path(str(prepared.run.hand_count))
    before = written.stat().st_mtime_ns
    again = hand_count_images(prepared)
    assert again and np.array_equal(again.fifth_BD, pictures.fifth_BD)
    assert written.stat().st_mtime_ns == before
    none = replace(config, rejection=replace(config.rejection, hand_count_images=0))
    assert hand_count_images(replace(prepared, config=none)) is None
