"""Many images through the command: pieces, interruptions, every kind of input and output."""

from __future__ import annotations

import csv
import json
import shutil
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hand_runs import EACH, GESTURE, LABELS
from PIL import Image
from started_commands import SLOW, SOURCE, Command, cluster_of_a_head, finish, killed

from sign_ensemble import predict
from sign_ensemble.core.errors import UserError
from sign_ensemble.core.storage import storage_path
from sign_ensemble.pipeline import prediction_parts, table_writers
from sign_ensemble.pipeline.prediction_parts import Parts, parts_of
from sign_ensemble.serving import loaded_ensemble, prediction_pieces
from sign_ensemble.serving.given_images import SquarePicture, square_picture
from sign_ensemble.serving.prediction_rows import COLUMNS, SCHEMA

if TYPE_CHECKING:
    from tests.conftest import S3

Answer = Callable[..., list[dict[str, Any]]]
SMALL = "from sign_ensemble.serving import prediction_pieces as p; p.IMAGES = 4"
SLOW_WRITER = f"""{SMALL}
import time
from sign_ensemble.pipeline import table_writers
def slowly(tables, file):
    for table in tables:
        with file.open("a") as opened:
            opened.write("x" * 10)
        time.sleep(1)
table_writers.WRITERS[".jsonl"] = slowly"""


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pieces of four images."""
    monkeypatch.setattr(prediction_pieces, "IMAGES", 4)


@pytest.fixture
def pictures(hands_folder: Path) -> list[Path]:
    """The unseen signer's, EACH of every label and of a wrong gesture, in the order of names."""
    found = sorted(hands_folder.glob("signer-4/*/*.png"))
    assert len(found) == EACH * (len(LABELS) + 1)
    return found


@pytest.fixture
def answer(hand_run: Path, tmp_path: Path) -> Answer:
    """Runs the command, and reads what it wrote."""

    def run(*given: object, name: str = "out.jsonl", more: tuple[str, ...] = ()) -> Any:
        out = tmp_path / name
        predict.main([*map(str, given), "--run", str(hand_run), "--out", str(out), *more])
        return [json.loads(line) for line in out.read_text().splitlines()]

    return run


def left_in(folder: Path) -> list[str]:
    """What is there besides the finished table and what tests put there."""
    return sorted(path.name for path in folder.iterdir() if path.name.startswith("."))


@pytest.mark.usefixtures("small_pieces")
def test_rows_are_in_the_order_of_the_input_and_the_same_on_any_number_of_threads(
    answer: Answer, pictures: list[Path], tmp_path: Path
) -> None:
    given = [*pictures[::-1], pictures[0]]
    before = torch.get_num_threads()
    contents = []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            rows = answer(*given)
            assert [row["path"] for row in rows] == list(map(str, given))
            assert torch.get_num_threads() == threads
            contents.append((tmp_path / "out.jsonl").read_bytes())
    finally:
        torch.set_num_threads(before)
    assert contents[0] == contents[1]
    assert left_in(tmp_path) == []


@pytest.mark.usefixtures("small_pieces")
def test_no_more_pictures_are_in_memory_than_a_piece_per_core(
    answer: Answer, pictures: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    live: weakref.WeakSet[SquarePicture] = weakref.WeakSet()
    most, read = [0], square_picture

    class Noted(SquarePicture):
        __hash__ = object.__hash__
        __eq__ = object.__eq__

    def noted(*arguments: Any) -> SquarePicture:
        found = read(*arguments)
        picture = Noted(found.square_HW3, found.at)
        live.add(picture)
        most[0] = max(most[0], len(live))
        return picture

    monkeypatch.setattr(loaded_ensemble, "square_picture", noted)
    rows = answer(*pictures * 4)
    assert len(rows) == 4 * len(pictures) > 2 * most[0]
    assert 4 <= most[0] <= 4 * torch.get_num_threads()


@pytest.mark.usefixtures("small_pieces")
def test_an_interrupted_command_goes_on_and_ends_with_each_row_once(
    answer: Answer,
    pictures: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    answer(*pictures)
    expected = (tmp_path / "out.jsonl").read_bytes()
    write = Parts.write

    def interrupted(parts: Parts, number: int, table: pa.Table) -> None:
        if number == 2:
            raise KeyboardInterrupt
        write(parts, number, table)

    with monkeypatch.context() as patched:
        patched.setattr(Parts, "write", interrupted)
        with pytest.raises(KeyboardInterrupt):
            answer(*pictures, name="other.jsonl")
    assert not (tmp_path / "other.jsonl").exists()
    parts = tmp_path / ".other.jsonl.parts"
    assert sorted(file.name for file in parts.iterdir()) == [
        "0000000.parquet", "0000001.parquet", "key.json",
    ]  # fmt: skip
    (parts / "0000001.parquet").write_bytes(b"PAR1")  # as after a loss of power
    (tmp_path / ".other.jsonl.12345").touch()  # of a command killed while it wrote the table
    capsys.readouterr()
    answer(*pictures, name="other.jsonl")
    printed = capsys.readouterr().out
    assert f"{parts}/0000001.parquet: damaged, it is made again" in printed
    assert f"4 of {len(pictures)} answers are kept from before" in printed
    assert (tmp_path / "other.jsonl").read_bytes() == expected
    assert left_in(tmp_path) == []


@pytest.mark.usefixtures("small_pieces")
def test_other_images_start_anew(
    answer: Answer,
    pictures: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def full(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(table_writers, "write_json_lines", full)
        patched.setitem(table_writers.WRITERS, ".jsonl", full)
        with pytest.raises(KeyboardInterrupt):
            answer(*pictures)
    rows = answer(*pictures[::-1])
    assert "started anew, since the images changed" in capsys.readouterr().out
    assert [row["path"] for row in rows] == list(map(str, pictures[::-1]))


@pytest.mark.long
@pytest.mark.timeout(2 * SLOW)
def test_a_killed_command_goes_on_wherever_it_was(
    hand_run: Path, answer: Answer, pictures: list[Path], tmp_path: Path
) -> None:
    out = tmp_path / "killed.jsonl"
    parts = tmp_path / ".killed.jsonl.parts"
    arguments = (*map(str, pictures * 3), "--run", str(hand_run), "--out", str(out))

    def begun(before: str) -> Command:
        folder = tmp_path / f"command-{len(list(tmp_path.glob('command-*')))}"
        folder.mkdir()
        return Command("predict", *arguments, folder=folder, before=before)

    def is_there(number: int) -> Callable[[], bool]:
        return (parts / f"{number:07d}.parquet").exists

    killed(begun(SMALL), (parts / "key.json").exists)
    killed(begun(SMALL), is_there(1))
    killed(begun(SMALL), is_there(6))
    killed(begun(SLOW_WRITER), lambda: any(tmp_path.glob(".killed.jsonl.[0-9]*")))
    assert not out.exists()
    command = begun(SMALL)
    try:
        printed = finish(command)
    finally:
        command.close()
    assert f"{3 * len(pictures)} of {3 * len(pictures)} answers are kept from before" in printed
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row["path"] for row in rows] == list(map(str, pictures * 3))
    assert left_in(tmp_path) == []


@pytest.mark.long
@pytest.mark.timeout(2 * SLOW)
def test_two_nodes_of_a_cluster_give_the_same_rows(
    hand_run: Path, pictures: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(SOURCE))  # the package, as if installed on every node
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    (tmp_path / "relative.png").write_bytes(pictures[0].read_bytes())
    given = [*map(str, pictures * 2), str(broken), "../relative.png"]
    cluster = cluster_of_a_head()
    try:
        for _ in range(2):
            cluster.add_node(num_cpus=2)  # and three actors: each node has one or more
        monkeypatch.setenv("RAY_ADDRESS", cluster.address)
        contents = []
        for engine in ("ray", "local"):
            out, folder = tmp_path / f"{engine}.csv", tmp_path / engine
            folder.mkdir()
            command = Command(
                "predict", *given, "--run", str(hand_run), "--out", str(out), "--engine", engine,
                folder=folder, before=SMALL,
            )  # fmt: skip
            try:
                assert command.ended() == 0, command.out + command.err
            finally:
                command.close()
            # Ray's own note on how an actor that is lost would be started again
            notes = [line for line in command.err.splitlines() if "core_worker.cc" not in line]
            assert notes == []
            assert f"{len(given)} answers: {out}" in command.out
            contents.append(out.read_bytes())
    finally:
        cluster.shutdown()
    assert contents[0] == contents[1]
    assert len(contents[0].splitlines()) == 1 + len(given)


def test_a_file_of_each_kind_holds_the_same(
    hand_run: Path, pictures: list[Path], tmp_path: Path
) -> None:
    (tmp_path / "broken.png").write_bytes(b"no picture")
    given = [str(path) for path in (*pictures[:4], tmp_path / "broken.png", pictures[-1])]
    outs = [tmp_path / f"out{ending}" for ending in (".parquet", ".csv", ".JSONL")]
    for out in outs:
        predict.main([*given, "--run", str(hand_run), "--out", str(out)])
    table = pq.read_table(outs[0])
    assert table.schema.equals(SCHEMA)
    rows = table.to_pylist()
    assert rows == [json.loads(line) for line in outs[2].read_text().splitlines()]
    with outs[1].open(newline="") as opened:
        in_csv = list(csv.DictReader(opened))
    assert list(in_csv[0]) == list(COLUMNS)
    words = {True: "true", False: "false", None: ""}
    for row, cells in zip(rows, in_csv, strict=True):
        for name, value in row.items():
            if isinstance(value, float):
                assert float(cells[name]) == value
            else:
                assert cells[name] == (words[value] if value in words else str(value))
    assert [row["error"] is not None for row in rows] == [False] * 4 + [True, False]


def test_tables_name_images_relative_to_their_folder(
    answer: Answer, pictures: list[Path], tmp_path: Path
) -> None:
    (tmp_path / "set/x").mkdir(parents=True)
    shutil.copy(pictures[0], tmp_path / "set/x/0.png")
    paths = ["x/0.png", str(pictures[1]), "gone.png"]
    with (tmp_path / "set/list.csv").open("w") as opened:
        csv.writer(opened).writerows([["n", "path"], *enumerate(paths)])
    pq.write_table(pa.table({"path": paths}), tmp_path / "set/list.parquet")
    for table in ("list.csv", "list.parquet"):
        rows = answer(tmp_path / "set" / table)
        assert [row["path"] for row in rows] == [
            str(tmp_path / "set/x/0.png"), str(pictures[1]), str(tmp_path / "set/gone.png"),
        ]  # fmt: skip
        assert [row["error"] for row in rows] == [
            None, None, "cannot be read: No such file or directory",
        ]  # fmt: skip


def test_an_object_store_is_read_and_written(
    hand_run: Path,
    pictures: list[Path],
    tmp_path: Path,
    s3: S3,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{s3.port}")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    at = f"s3://{s3.bucket}/new"
    for name, path in zip(("b/2.png", "a/1.png", "a/.hidden.png"), pictures, strict=False):
        storage_path(f"{at}/{name}").write_bytes(path.read_bytes())
    storage_path(f"{at}/a/broken.jpg").write_bytes(b"no picture")
    storage_path(f"{at}/notes.txt").write_bytes(b"kept by somebody")
    storage_path(f"{at}/list.csv").write_bytes(b"path\nb/2.png\nnowhere.png\n")
    out = f"s3://{s3.bucket}/out/answers.jsonl"

    def rows(*given: str) -> list[dict[str, Any]]:
        predict.main([*given, "--run", str(hand_run), "--out", out])
        return [json.loads(line) for line in storage_path(out).read_text().splitlines()]

    names = ["a/1.png", "a/broken.jpg", "b/2.png"]
    found = rows(at)
    assert [row["path"] for row in found] == [f"{at}/{name}" for name in names]
    assert [row["error"] for row in found] == [None, "not an image of a known format", None]
    assert f"1 left out, hidden: below {at}" in capsys.readouterr().out
    assert [row["path"] for row in rows(f"{at}/*/[12].png")] == [
        f"{at}/a/1.png", f"{at}/b/2.png",
    ]  # fmt: skip
    found = rows(f"{at}/list.csv", f"{at}/a/1.png")
    assert [row["error"] for row in found] == [None, "cannot be read: no such object", None]
    assert [path.name for path in storage_path(f"s3://{s3.bucket}/out").glob("*")] == [
        "answers.jsonl"
    ]
    with pytest.raises(UserError, match="nowhere: no such object or folder"):
        rows(f"s3://{s3.bucket}/nowhere")


def write_video(path: Path, shown: list[Path], codec: str) -> None:
    """A frame per picture."""
    frames = [np.array(Image.open(each).convert("RGB")) for each in shown]
    height, width = frames[0].shape[:2]
    fourcc = cv2.VideoWriter.fourcc(*codec)
    video = cv2.VideoWriter(str(path), fourcc, 10, (width, height))
    for frame in frames:
        video.write(frame[:, :, ::-1])
    video.release()


@pytest.mark.usefixtures("small_pieces")
def test_videos_are_read_frame_by_frame(
    answer: Answer, pictures: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prediction_pieces, "FRAMES", 6)
    folder = tmp_path / "clips"
    folder.mkdir()
    write_video(folder / "a.avi", pictures, "MJPG")
    write_video(folder / "c.mp4", pictures[:2], "mp4v")
    shutil.copy(pictures[0], folder / "b.png")
    (folder / "d.mkv").write_bytes((folder / "c.mp4").read_bytes()[:99])
    rows = answer(folder)
    expected: list[tuple[str, int | None]] = [("a.avi", i) for i in range(len(pictures))]
    expected += [("b.png", None), ("c.mp4", 0), ("c.mp4", 1), ("d.mkv", None)]
    assert [(Path(row["path"]).name, row["frame"]) for row in rows] == expected
    assert rows[-1]["error"] == "a video that cannot be opened: damaged, or of an unknown codec"
    assert {row["error"] for row in rows[:-1]} == {None}
    pictured = answer(*pictures)
    agree = [a["likeliest"] == b["likeliest"] for a, b in zip(rows, pictured, strict=False)]
    assert np.mean(agree) > 0.8  # the frames are compressed


def test_folders_as_labels(
    hand_run: Path, pictures: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / LABELS[0]
    folder.mkdir()
    (folder / "broken.png").write_bytes(b"no picture")
    given = [*map(str, pictures), str(folder / "broken.png")]
    for out in ([], ["--out", str(tmp_path / "a.csv")]):
        predict.main([*given, "--run", str(hand_run), "--labels", "from-folder", *out])
    printed = capsys.readouterr().out
    with (tmp_path / "a.csv").open(newline="") as opened:
        rows = [row for row in csv.DictReader(opened) if not row["error"]]
    signs = [row for row in rows if Path(row["path"]).parent.name in LABELS]
    right = [row for row in signs if row["likeliest"] == Path(row["path"]).parent.name]
    answered = sum(row["accepted"] == "true" for row in signs)
    others = [row["accepted"] == "true" for row in rows if row not in signs]
    for line in (
        f"folders are labels: n = {len(signs)}, accuracy {100 * len(right) / len(signs):.1f} %, "
        f"coverage {100 * answered / len(signs):.1f} %, errors ",
        f"1 folders are no label ({GESTURE}): n = {EACH}, {sum(others)} answered, "
        f"{EACH - sum(others)} rejected",
        "1 could not be read and are not counted",
    ):
        assert printed.count(line) == 2, line


@pytest.fixture
def bad(tmp_path: Path) -> Path:
    """A folder of what cannot be used."""
    (tmp_path / "other.csv").write_text("file\na.png\n")
    (tmp_path / "empty.csv").write_text("path\n")
    (tmp_path / "hole.csv").write_text("path,n\na.png,1\n,2\n")
    (tmp_path / "text.parquet").write_text("no table")
    (tmp_path / "nothing").mkdir()
    (tmp_path / "folder.csv").mkdir()
    return tmp_path


def test_every_ending_that_is_taken_is_written() -> None:
    assert tuple(table_writers.WRITERS) == predict.OUTPUTS


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere", "--out", "a.txt"], "--out is a.txt: it must end in .csv, .parquet or .jsonl"),
        (["nowhere", "--out", "{bad}/folder.csv"], "since it is a folder"),
        (["{bad}/other.csv"], "other.csv: the table lacks the column path and has file"),
        (["{bad}/empty.csv"], "empty.csv: the table has no rows"),
        (["{bad}/hole.csv"], "hole.csv: row 2 has no path"),
        (["{bad}/text.parquet"], "text.parquet: the table cannot be read"),
        (["{bad}/gone.csv"], "gone.csv: no such table"),
        (["{bad}/nothing"], "nothing: no image files"),
        (["https://example.org/a.png"], "download them and name their folder"),
    ],
)
def test_what_is_refused(hand_run: Path, bad: Path, arguments: list[str], message: str) -> None:
    before = sorted(bad.iterdir())
    with pytest.raises(UserError) as mistake:
        predict.main([*(each.format(bad=bad) for each in arguments), "--run", str(hand_run)])
    assert message in str(mistake.value)
    assert "\n" not in str(mistake.value)
    assert sorted(bad.iterdir()) == before


def test_one_command_at_a_time_writes_a_table(
    answer: Answer, pictures: list[Path], tmp_path: Path
) -> None:
    refused = pytest.raises(UserError, match=r"is in use by .*, or give another --out")
    with parts_of(tmp_path / "out.jsonl"), refused:
        answer(*pictures)
    assert len(answer(*pictures[:1])) == 1


def test_a_part_that_became_damaged_is_named(
    answer: Answer, pictures: list[Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def spoilt(parts: Parts, number: int, table: pa.Table) -> None:
        file = parts.file(number)
        assert isinstance(file, Path)
        pq.write_table(table, file)
        content = bytearray(file.read_bytes())
        content[4:200] = bytes(196)
        file.write_bytes(content)

    monkeypatch.setattr(prediction_parts.Parts, "write", spoilt)
    with pytest.raises(UserError, match=r"0000000.parquet: damaged \(.*delete it, then the same"):
        answer(*pictures[:2])
    assert not (tmp_path / "out.jsonl").exists()
