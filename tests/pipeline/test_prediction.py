"""New images through a finished run: answers, refusals, tables."""

from __future__ import annotations

import csv
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from sign_ensemble import predict
from sign_ensemble.core.config import (
    Config,
    DataConfig,
    EnsembleConfig,
    FinetuneConfig,
    MemberConfig,
    RejectionConfig,
    RunConfig,
    SearchConfig,
    WandbConfig,
)
from sign_ensemble.core.errors import UserError
from sign_ensemble.core.names import Name
from sign_ensemble.core.run_folder import RunFolder
from sign_ensemble.data.feature_cache import preprocessing_of
from sign_ensemble.pipeline import jobs
from sign_ensemble.rejection import predictor
from sign_ensemble.serving.prediction_rows import SCHEMA


@pytest.fixture(scope="module")
def finished(
    signs_folder: Path, ray_two_cpus: None, tmp_path_factory: pytest.TempPathFactory
) -> RunFolder:
    """A run of one member that has learnt the drawn signs of three signers; the label of discs is
    "rejected".
    """
    root = tmp_path_factory.mktemp("runs")
    signs = root / "signs"
    shutil.copytree(signs_folder, signs)
    for signer in signs.iterdir():
        (signer / "disc").rename(signer / "rejected")
    config = Config(
        data=DataConfig(
            root=str(signs),
            near_labels=[Name("wave")],
            test_signers=[Name("dan")],
            crop="none",
            augmentations=0,
            cache=str(root / "features"),
            engine="local",
        ),
        member=MemberConfig(widths=(64, 32), dropout=0.2, learning_rate=5e-4, epochs=30),
        search=SearchConfig(trials=1),
        ensemble=EnsembleConfig(size=1),
        finetune=FinetuneConfig(layers="none"),
        rejection=RejectionConfig(hand_count_images=10),
        run=RunConfig(root=str(root), name="one"),
        wandb=WandbConfig(mode="disabled"),
    )
    record = jobs.train(config)
    assert record.status == "complete"
    assert len(record.folds) == 3
    return RunFolder(root / "one")


@pytest.fixture
def images(signs_folder: Path, tmp_path: Path) -> Path:
    """Two real signs of an unseen signer, an empty picture and a broken file."""
    folder = tmp_path / "new"
    folder.mkdir()
    for label in ("bar", "disc"):
        (folder / f"{label}.png").write_bytes((signs_folder / f"dan/{label}/0.png").read_bytes())
    grey = np.random.default_rng(0).normal(128, 3, (96, 96, 3)).clip(0, 255).astype(np.uint8)
    Image.fromarray(grey).save(folder / "empty.png")
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 nothing more")
    return folder


def rows_of(run: RunFolder, out: Path, *given: str) -> list[dict[str, Any]]:
    """What the command writes as JSON lines."""
    predict.main([*given, "--run", str(run.path), "--out", str(out)])
    return [json.loads(line) for line in out.read_text().splitlines()]


def test_answers_and_refusals(
    finished: RunFolder, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "answers.csv"
    predict.main([str(images), "--run", str(finished.path), "--out", str(out)])
    with out.open() as opened:
        rows = {Path(row["path"]).name: row for row in csv.DictReader(opened)}
    assert list(rows) == ["bar.png", "broken.jpg", "disc.png", "empty.png"]
    assert rows["bar.png"]["likeliest"] == "bar"
    assert rows["disc.png"]["likeliest"] == "rejected"
    assert (rows["disc.png"]["accepted"], rows["disc.png"]["label"]) == ("true", "rejected")
    assert (rows["empty.png"]["accepted"], rows["empty.png"]["label"]) == ("false", "")
    assert "1 says" in rows["empty.png"]["votes"]
    assert rows["broken.jpg"]["accepted"] == "false"
    assert rows["broken.jpg"]["confidence"] == ""
    assert rows["broken.jpg"]["reason"] == rows["broken.jpg"]["error"] != ""
    assert {row["error"] for name, row in rows.items() if name != "broken.jpg"} == {""}
    for row in rows.values():
        accepted = row["accepted"] == "true"
        assert accepted == (row["label"] != "")
        assert accepted == (row["reason"] == "")
        assert row["frame"] == ""
        if row["p_value"]:
            assert accepted == (float(row["p_value"]) > 1 - 0.95)
    assert f"4 answers: {out}" in capsys.readouterr().out


def test_parquet_and_console_say_the_same(
    finished: RunFolder, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "answers.parquet"
    predict.main([str(images), "--run", str(finished.path), "--out", str(out)])
    table = pq.read_table(out)
    assert table.schema.equals(SCHEMA)
    capsys.readouterr()
    predict.main([str(images), "--run", str(finished.path)])
    lines = [line.split("\t") for line in capsys.readouterr().out.splitlines() if "\t" in line]
    decisions = {True: "accepted", False: "rejected"}
    assert [line[:3] for line in lines] == [
        [row["path"], decisions[row["accepted"]], row["label"] or ""] for row in table.to_pylist()
    ]
    assert {row["label"] for row in table.to_pylist() if not row["accepted"]} == {None}


def test_names_of_any_bytes_and_brackets_lose_no_answer(
    finished: RunFolder, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    odd, old = images / os.fsdecode(b"caf\xe9 \n.png"), images / "photos [old]"
    (images / "bar.png").rename(odd)
    old.mkdir()
    (images / "disc.png").rename(old / "x.png")
    (images / "._x.png").touch()
    expected = [rf"{images}/caf\xe9 {{}}.png", f"{old}/x.png"]
    for name in ("a.csv", "a.parquet"):
        predict.main([str(images), "--run", str(finished.path), "--out", str(tmp_path / name)])
        out = tmp_path / name
        if name == "a.csv":
            with out.open(newline="") as opened:
                paths = [row["path"] for row in csv.DictReader(opened)]
        else:
            paths = pq.read_table(out).column("path").to_pylist()
        assert {expected[0].format("\n"), expected[1]} < set(paths)
        assert len(paths) == 4
        assert f"1 left out, hidden: {images}/._x.png\n" in capsys.readouterr().out
    predict.main([str(images), "--run", str(finished.path)])
    printed = capsys.readouterr().out
    for path in (expected[0].format(r"\n"), expected[1]):
        assert f"{path}\taccepted\t" in printed


def test_out_is_tried_before_images_are_read(finished: RunFolder, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder.csv").mkdir()
    for out, reason in (
        (tmp_path / "file/a.csv", f"a.csv: cannot be written ({tmp_path}/file is no folder)"),
        (tmp_path / "folder.csv", "folder.csv: cannot be written, since it is a folder"),
    ):
        with pytest.raises(UserError) as caught:  # and not that the image is missing
            predict.main(["nowhere.png", "--run", str(finished.path), "--out", str(out)])
        assert str(caught.value) == f"{out.parent}/{reason}"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder.csv"]


def test_a_tilde_is_the_home_folder_everywhere(
    finished: RunFolder, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "run").symlink_to(str(finished.path))
    predict.main(["~/new", "--run=~/run", "--out=~/deep/a.csv"])
    assert len((tmp_path / "deep/a.csv").read_text().splitlines()) == 5


def test_what_cannot_be_read_is_called_what_it_is(finished: RunFolder, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"\0\0\0\x18ftypheic")
    (tmp_path / "clip.mp4").write_bytes(b"\0\0\0\x18ftypmp42")
    heic, video = rows_of(finished, tmp_path / "out.jsonl", str(tmp_path))
    assert heic["error"] == "HEIC: install pillow-heif or convert it to JPEG"
    assert video["error"] == "a video that cannot be opened: damaged, or of an unknown codec"
    for row in (heic, video):
        assert (row["accepted"], row["label"], row["frame"]) == (False, None, None)
        assert row["reason"] == row["error"]


def test_a_file_alone_and_order_do_not_matter(
    finished: RunFolder, images: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.jsonl"
    together = {row["path"]: row for row in rows_of(finished, out, str(images))}
    for path, row in together.items():
        (alone,) = rows_of(finished, out, path)
        for name, value in row.items():  # products of other sizes round otherwise
            close = pytest.approx(value, abs=1e-5) if isinstance(value, float) else value
            assert alone[name] == close, name


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere.png"], "nowhere.png: no such file"),
        (["{empty}"], "no image files"),
        (["{images}", "--out", "answers.txt"], "must end in .csv, .parquet or .jsonl"),
    ],
)
def test_mistakes_are_named(
    finished: RunFolder, images: Path, tmp_path: Path, arguments: list[str], message: str
) -> None:
    (tmp_path / "nothing").mkdir()
    given = [a.format(images=images, empty=tmp_path / "nothing") for a in arguments]
    with pytest.raises(UserError, match=message):
        predict.main([*given, "--run", str(finished.path)])


def test_a_folder_that_is_no_run(images: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not a run folder"):
        predict.main([str(images), "--run", str(tmp_path)])


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"reduced": 9.0}, r"one: its members were trained with reduced 1\.4, now it is 9\.0"),
        ({"sharpened": True}, "one: its members are of an earlier version.*sharpened"),
    ],
)
def test_members_that_learned_from_other_images_are_refused(
    finished: RunFolder,
    images: Path,
    changed: dict[str, object],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def otherwise(data: DataConfig, weights_sha256: str) -> dict[str, object]:
        return {**preprocessing_of(data, weights_sha256), **changed}

    monkeypatch.setattr(predictor, "preprocessing_of", otherwise)
    with pytest.raises(UserError, match=message):
        predict.main([str(images), "--run", str(finished.path)])
