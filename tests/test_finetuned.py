"""What fine-tuning learns from, and which trials' networks judge which folds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from sign_ensemble.config import Config, DataConfig, Name, RejectionConfig, RunConfig
from sign_ensemble.data.images import square_of
from sign_ensemble.learning.finetune import OF_NO_FOLD
from sign_ensemble.stages.finetune import pixel_task, seats
from sign_ensemble.stages.prepare import prepare


@pytest.mark.parametrize(
    ("votes", "folds", "rounds", "expected"),
    [
        ({7: 1}, 3, 1, [(7, 0), (7, 1), (7, 2)]),
        ({7: 1, 2: 1}, 3, 1, [(7, 0), (2, 1), (7, 2)]),
        ({7: 1, 2: 1, 9: 1, 4: 1}, 3, 1, [(7, 0), (2, 1), (9, 2)]),
        ({7: 2, 2: 1}, 2, 2, [(7, 0), (7, 1), (2, 0), (7, 1)]),
    ],
)
def test_every_fold_has_its_judges_and_the_best_trials_come_first(
    votes: dict[int, int], folds: int, rounds: int, expected: list[tuple[int, int]]
) -> None:
    assert seats(votes, folds, rounds) == expected


def test_further_signers_are_learned_from_and_belong_to_no_fold(
    signs_folder: Path, tmp_path: Path
) -> None:
    for file in sorted(signs_folder.glob("dan/*/[01].png")):
        copy = tmp_path / "more" / "eve" / file.parent.name / file.name
        copy.parent.mkdir(parents=True, exist_ok=True)
        ImageOps.mirror(Image.open(file)).save(copy)
    data = DataConfig(
        root=str(signs_folder), more=str(tmp_path / "more"), labels=[Name("bar"), Name("disc")],
        test_signers=[Name("ada")], size=63, views=0, weights="random", engine="local",
    )  # fmt: skip
    config = Config(
        data=data, run=RunConfig(root=str(tmp_path / "runs")),
        rejection=RejectionConfig(negatives=10),
    )  # fmt: skip
    prepared = prepare(config)
    own = len(prepared.task.labels_N)
    assert own == 3 * 2 * 6
    task = pixel_task(prepared)
    assert task.folds_N.tolist() == [*prepared.task.folds_N, *[OF_NO_FOLD] * 4]
    assert task.labels_N[own:].tolist() == [0, 0, 1, 1]
    files = [tmp_path / f"more/eve/{name}.png" for name in ("bar/0", "bar/1", "disc/0", "disc/1")]
    shown = task.pixels.open()[task.pixels.slots_N[own:]]
    assert np.array_equal(shown, np.stack([square_of(file, data) for file in files]))
    for fold in (-1, 0):  # a member; the judge of fold 0
        learned = set(np.flatnonzero(task.folds_N != fold))
        assert set(range(own, own + 4)) <= learned
