"""The Python API on a run of rendered hands."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import FrozenInstanceError, replace
from pathlib import Path

import numpy as np
import pytest
from hand_runs import GESTURE, LABELS
from PIL import Image
from rendered_hands import flipped, rendered_hand

from sign_ensemble import LoadedEnsemble, Prediction, UserError, load_ensemble
from sign_ensemble.rejection.scores import BY_NAME
from sign_ensemble.serving.given_images import GivenImage


@pytest.fixture(scope="module")
def ensemble(hand_run: Path) -> LoadedEnsemble:
    return load_ensemble(hand_run)


@pytest.fixture(scope="module")
def paths(hands_folder: Path) -> list[Path]:
    """One picture of each label by the unseen signer, and a wrong gesture."""
    return [hands_folder / f"signer-4/{label}/00001.png" for label in (*LABELS, GESTURE)]


def rounded(prediction: Prediction) -> tuple[object, ...]:
    """What must not depend on how an image is given, figures to a rounding."""
    figures = (prediction.confidence, prediction.probability, prediction.p_value)
    return (
        prediction.label,
        prediction.reason,
        *(None if figure is None else round(figure, 4) for figure in figures),
    )


def test_what_is_answered_of_a_sign(ensemble: LoadedEnsemble, paths: list[Path]) -> None:
    found = ensemble.predict(paths)
    assert len(found) == len(paths)
    assert ensemble.labels == tuple(sorted(LABELS))
    for prediction in found:
        assert prediction.likeliest in LABELS
        assert prediction.accepted == (prediction.label is not None)
        assert (prediction.label is None) == bool(prediction.reason)
        assert prediction.label in (None, prediction.likeliest)
        if not prediction.accepted:
            assert prediction.rejected_by in BY_NAME
        assert prediction.p_value is not None and prediction.confidence is not None
        assert prediction.accepted == (prediction.p_value > 1 - ensemble.rule.target_coverage)
        parts = prediction.disagreement
        assert parts is not None and None not in vars(parts).values()
        together = (parts.within_pixels or 0) + (parts.within_landmarks or 0)
        assert parts.total == pytest.approx(together + (parts.between_kinds or 0), abs=1e-6)
        kinds = [vote.kind for vote in prediction.votes if vote.is_member]
        assert kinds == (["pixels", "landmarks"] if prediction.hand else ["pixels"])
        assert prediction.error is None
    with pytest.raises(FrozenInstanceError):
        found[0].label = "b"  # type: ignore[misc]


def test_the_hand_is_where_it_is_in_the_picture(ensemble: LoadedEnsemble) -> None:
    shown = np.pad(rendered_hand("b"), ((0, 0), (100, 0), (0, 0)), mode="edge")
    height, width = shown.shape[:2]
    [found, mirrored] = ensemble.predict([shown, flipped(shown)])
    assert found.hand and mirrored.hand
    assert len(found.hand.points) == 21
    assert (found.hand.side, mirrored.hand.side) == ("right", "left")
    assert found.hand.count == 1
    left, top, right, bottom = found.hand.box
    assert 100 < left < right < width and 0 < top < bottom < height
    patch = shown[int(top) : int(bottom), int(left) : int(right)].astype(int)
    assert np.ptp(patch.sum(2)) > 100  # there is something in it
    points, others = (np.array(each.hand.points) for each in (found, mirrored) if each.hand)
    others[:, 0] = width - others[:, 0]
    assert np.linalg.norm(points - others, axis=1).mean() < 0.03 * width


def test_however_an_image_is_given(ensemble: LoadedEnsemble, paths: list[Path]) -> None:
    path = paths[0]
    pixels = np.array(Image.open(path).convert("RGB"))
    ways: list[GivenImage] = [path, str(path), path.read_bytes(), Image.open(path), pixels]
    expected = rounded(ensemble.predict(path)[0])
    assert [rounded(each) for each in ensemble.predict(ways)] == [expected] * len(ways)
    assert [rounded(each) for each in ensemble.predict(np.stack([pixels] * 2))] == [expected] * 2
    assert ensemble.predict([]) == []


def test_an_image_that_cannot_be_read_is_rejected_with_the_reason(
    ensemble: LoadedEnsemble, paths: list[Path]
) -> None:
    given: list[GivenImage] = [paths[0], "nowhere.png", b"", np.zeros((8, 9, 3), np.uint8)]
    found = ensemble.predict(given)
    assert [each.error for each in found] == [
        None,
        "cannot be read: No such file or directory",
        "empty file (0 bytes)",
        "9 x 8: the shorter side is below 16 pixels",
    ]
    for prediction in found[1:]:
        assert prediction == replace(prediction, label=None, likeliest=None, confidence=None)
        assert prediction.reason == prediction.error


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (3, "images: int is no path, PIL image, array"),
        ([None], "images: NoneType is no path, PIL image, array"),
        (np.zeros((32, 32), np.uint8), r"the array is uint8 of shape \(32, 32\)"),
        (np.zeros((32, 32, 3)), r"the array is float64 of shape \(32, 32, 3\)"),
    ],
)
def test_what_is_no_image(ensemble: LoadedEnsemble, given: object, message: str) -> None:
    with pytest.raises(UserError, match=message):
        ensemble.predict(given)  # type: ignore[arg-type]


def test_eight_threads_get_what_one_gets(ensemble: LoadedEnsemble, paths: list[Path]) -> None:
    alone = [ensemble.predict([path])[0] for path in paths]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda number: ensemble.predict([paths[number % 5]])[0], range(16)))
    assert found == [alone[number % 5] for number in range(16)]


def test_a_folder_without_a_run(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not a run folder"):
        load_ensemble(tmp_path)
