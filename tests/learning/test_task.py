"""The task of members that read pixels or landmarks."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np

from sign_ensemble.data import backbone
from sign_ensemble.data.row_cache import CachedArray
from sign_ensemble.learning.task import CALIBRATION_COPIES, EndToEnd, Kind, Task


def task(folder: Path, copies: int = 3, kinds: tuple[Kind, ...] = ("pixels",)) -> Task:
    """Four images, three rows, whose features are their own column's number, plus the row's."""
    shape = (1 + copies, backbone.ALL_FEATURES)
    values = np.arange(backbone.ALL_FEATURES) % 1000 + np.arange(3)[:, None, None]
    path = folder / "features.f16"
    path.write_bytes(np.broadcast_to(values, (3, *shape)).astype(np.float16).tobytes())
    rows_N = np.array([0, 2, 1, 2])
    features = CachedArray(str(path), rows_N, shape, "float16", None, (0, backbone.HEAD_FEATURES))
    given: dict[str, Any] = {"end_to_end": cast(EndToEnd, object()), "projected": {"key": object()}}
    folds_N, names = np.array([0, 0, 1, 1]), ("ada", "ben")
    return Task(features, np.arange(4) % 2, folds_N, names, ("a", "b"), 7, kinds=kinds, **given)


def test_members_of_pixels_read_the_task_as_it_is(tmp_path: Path) -> None:
    given = task(tmp_path)
    assert given.of_kind("pixels") is given
    assert given.features.open().shape == (3, 4, backbone.HEAD_FEATURES)


def test_members_of_landmarks_read_the_landmarks(tmp_path: Path) -> None:
    given = task(tmp_path, kinds=("pixels", "landmarks"))
    found = given.of_kind("landmarks")
    read = found.features.open()
    assert read.shape == (3, 4, backbone.OF_LANDMARKS)
    columns = backbone.OF_PIXELS + np.arange(backbone.OF_LANDMARKS)
    assert np.array_equal(read[1, 2], (columns % 1000 + 1).astype(np.float16))
    # nothing of the pixels is left, and everything else is the same
    assert found.end_to_end is None and dict(found.projected) == {}
    for name in ("labels_N", "folds_N", "fold_names", "labels", "seed", "kinds"):
        assert getattr(found, name) is getattr(given, name), name
    assert np.array_equal(found.features.row_N, given.features.row_N)
    assert dict(given.projected) and given.end_to_end is not None


def test_landmark_members_are_calibrated_on_copies(tmp_path: Path) -> None:
    assert CALIBRATION_COPIES == 2
    assert task(tmp_path).copies == 0
    assert task(tmp_path, 3, ("pixels", "landmarks")).copies == 2
    assert task(tmp_path, 1, ("landmarks",)).copies == 1
    assert task(tmp_path, 0, ("landmarks",)).copies == 0
