"""What fine-tuning learns from, and which trials' networks judge which folds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from sign_ensemble.core.atomic_files import read_arrays, write_arrays
from sign_ensemble.core.config import Config, DataConfig, Name, RejectionConfig, RunConfig
from sign_ensemble.data.feature_cache import features_of_images
from sign_ensemble.data.images import read_image
from sign_ensemble.data.negatives import NEGATIVES
from sign_ensemble.learning.end_to_end import negatives_of
from sign_ensemble.learning.task import NO_FOLD
from sign_ensemble.pipeline.finetuned_members import fold_model_seats, pixel_task
from sign_ensemble.pipeline.hand_count_pictures import hand_count_images
from sign_ensemble.pipeline.preparation import negatives_of as negatives_of_prepared
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
def test_every_fold_has_its_judges_and_the_best_trials_come_first(
    votes: dict[int, int], folds: int, rounds: int, expected: list[tuple[int, int]]
) -> None:
    assert fold_model_seats(votes, folds, rounds) == expected


def two_labels(signs_folder: Path, home: Path, **more: Any) -> Config:
    """A run on two labels, ada held out."""
    data = DataConfig(
        root=str(signs_folder), labels=[Name("bar"), Name("disc")], test_signers=[Name("ada")],
        size=63, augmentations=0, weights="random", engine="local", **more,
    )  # fmt: skip
    return Config(
        data=data, run=RunConfig(root=str(home / "runs")), rejection=RejectionConfig(negatives=10)
    )


def test_further_signers_are_learned_from_and_belong_to_no_fold(
    signs_folder: Path, tmp_path: Path
) -> None:
    for file in sorted(signs_folder.glob("dan/*/[01].png")):
        copy = tmp_path / "more" / "eve" / file.parent.name / file.name
        copy.parent.mkdir(parents=True, exist_ok=True)
        ImageOps.mirror(Image.open(file)).save(copy)
    config = two_labels(signs_folder, tmp_path, extra_signers=str(tmp_path / "more"))
    prepared = prepare(config)
    own = len(prepared.task.labels_N)
    assert own == 3 * 2 * 6
    task = pixel_task(prepared)
    assert task.folds_N.tolist() == [*prepared.task.folds_N, *[NO_FOLD] * 4]
    assert task.labels_N[own:].tolist() == [0, 0, 1, 1]
    files = [tmp_path / f"more/eve/{name}.png" for name in ("bar/0", "bar/1", "disc/0", "disc/1")]
    shown = task.pixels.open()[task.pixels.row_N[own:]]
    assert np.array_equal(shown, np.stack([read_image(file, config.data) for file in files]))
    for fold in (-1, 0):  # a member; the judge of fold 0
        learned = set(np.flatnonzero(task.folds_N != fold))
        assert set(range(own, own + 4)) <= learned


def test_a_folds_negatives_go_through_the_convolutions_together(
    signs_folder: Path, tmp_path: Path
) -> None:
    """The same images in the run's file and for networks, to the bit; once each kind filled up a
    pass by itself.
    """
    prepared = prepare(two_labels(signs_folder, tmp_path))
    task = pixel_task(prepared)
    found, header = read_arrays(prepared.run.negatives)
    for fold in range(prepared.task.folds):
        (images,) = negatives_of(task, fold, 10, prepared.task.seed)
        mine = found["folds"] == fold
        assert len(images) == mine.sum() == 10 * len(NEGATIVES)
        assert np.array_equal(features_of_images(images, "random").head_ND, found["features"][mine])
        made = negatives_of_prepared(prepared, fold)
        kinds = np.array(header["kinds"])[found["kinds"][mine]].tolist()
        assert kinds == [kind for kind, some in made.items() for _ in some]


def test_what_an_earlier_version_did_not_look_at_is_made_again(
    signs_folder: Path, tmp_path: Path
) -> None:
    """The fourth layer of negatives, pictures without a sign: a run begun before goes on."""
    config = two_labels(signs_folder, tmp_path)
    config = replace(config, rejection=replace(config.rejection, hand_count_images=10))
    prepared = prepare(config)
    hands = hand_count_images(prepared)
    end_to_end, header = read_arrays(prepared.run.negatives)
    earlier = {name: values for name, values in end_to_end.items() if name != "fourth"}
    write_arrays(prepared.run.negatives, earlier, header)
    made, _ = read_arrays(prepared.run.hands)
    write_arrays(prepared.run.hands, {"deep": made["deep"][::2], "two": made["groups"][::2]})
    again = prepare(config)
    found, _ = read_arrays(again.run.negatives)
    assert found.keys() == end_to_end.keys()
    assert all(np.array_equal(found[name], values) for name, values in end_to_end.items())
    hands_again = hand_count_images(again)
    assert hands is not None
    assert hands_again is not None
    assert np.array_equal(hands_again.fifth_ND, hands.fifth_ND)
    assert np.array_equal(hands_again.signs_P, hands.signs_P)
