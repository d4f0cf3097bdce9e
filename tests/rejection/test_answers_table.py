"""answers.parquet: its rows, which images are shown, reading it back."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from sign_ensemble.core.errors import UserError
from sign_ensemble.pipeline.answer_rows import SIDE
from sign_ensemble.rejection import answers_table
from sign_ensemble.rejection.answers_table import (
    ACCEPTED_OOD,
    MISTAKES,
    REJECTED_OOD,
    REJECTED_SIGNS,
)


def test_rows_hold_the_answers(wide_run: Path) -> None:
    rows = answers_table.read(wide_run / "answers.parquet").to_pylist()
    assert len(rows) == 2500
    assert [row["kind"] for row in rows[:521]] == ["known"] * 520 + ["near"]
    for row in rows:
        assert (row["label"] != "") == (row["signer"] != "") == (row["kind"] == "known")
        assert (row["reason"] == "") == row["accepted"]
        assert row["accepted"] == (row["p_value"] > 0.05 + 1e-9)
        assert 0 < row["confidence"] <= 1 and 0 < row["probability"] <= 1
        assert 0 < row["single_confidence"] <= 1
        votes = [int(part.split(" say")[0]) for part in row["votes"].split(", ")]
        assert sum(votes) == 5 and votes == sorted(votes, reverse=True)


def test_galleries_hold_the_most_confident_of_their_kind(wide_run: Path) -> None:
    rows = answers_table.read(wide_run / "answers.parquet").to_pylist()
    wanted = {
        MISTAKES: lambda r: r["accepted"] and r["kind"] == "known" and r["answer"] != r["label"],
        REJECTED_SIGNS: lambda r: not r["accepted"] and r["kind"] == "known",
        ACCEPTED_OOD: lambda r: r["accepted"] and r["kind"] != "known",
        REJECTED_OOD: lambda r: (
            not r["accepted"] and r["kind"] != "known" and r["single_confidence"] >= 0.9
        ),
    }
    for gallery, fits in wanted.items():
        column = "single_confidence" if gallery == REJECTED_OOD else "confidence"
        for name in {row["set"] for row in rows}:
            fitting = [row for row in rows if row["set"] == name and fits(row)]
            shown = [row for row in fitting if row["gallery"] == gallery]
            assert len(shown) == min(12, len(fitting))
            rest = [row[column] for row in fitting if row["gallery"] != gallery]
            assert not rest or min(row[column] for row in shown) >= max(rest)
    assert {row["gallery"] for row in rows} == {*wanted, ""}
    for row in rows:
        assert bool(row["picture"]) == bool(row["gallery"])
        if row["picture"]:
            assert Image.open(io.BytesIO(row["picture"])).size == (SIDE, SIDE)


def test_round_trip(tmp_path: Path) -> None:
    row = answers_table.Row(
        "known", "known", "a/b.png", "ada", "x", "y", 0.5, 0.75, 0.25, True, "no_hand", "1 says y",
        "", "y", 0.75, "", b"",
    )  # fmt: skip
    table = answers_table.table_of([row], {"disagreement": np.array([1.5])})
    answers_table.write(table, tmp_path / "answers.parquet")
    assert answers_table.read(tmp_path / "answers.parquet").equals(table)
    assert table["score.disagreement"].to_pylist() == [1.5]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "is missing: evaluate the run"),
        (b"no table", "cannot be read"),
        (pa.table({"set": ["known"]}), "not of this version"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, content, message: str) -> None:
    path = tmp_path / "answers.parquet"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        answers_table.write(content, path)
    with pytest.raises(UserError, match=message):
        answers_table.read(path)
