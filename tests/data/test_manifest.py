"""Folders and tables of known content: which row goes where, and what is refused in which words."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest
from PIL import Image

from sign_ensemble.core.config import DataConfig
from sign_ensemble.core.errors import UserError
from sign_ensemble.core.names import Name
from sign_ensemble.core.storage import StorageError
from sign_ensemble.data.layouts import PRESETS
from sign_ensemble.data.manifest import SCHEMA, Manifest, build, changed, gaps, read, write
from sign_ensemble.data.splits import SPLITS

MASSEY = Path(__file__).parents[2].parent / "shared" / "data" / "massey-asl"


def png(seed: int) -> bytes:
    """A small image, different for each seed."""
    pixels = np.random.default_rng(seed).integers(0, 256, (16, 20, 3), dtype=np.uint8)
    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def put(root: Path, *paths: str) -> None:
    """Write a distinct image to each path below root."""
    for path in paths:
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(png(int.from_bytes(path.encode(), "big")))


def fill(root: Path, signers: str = "1234", labels: str = "abc", images: int = 2) -> Path:
    """A folder <signer>/<label>/<n>.png."""
    put(root, *(f"{s}/{label}/{n}.png" for s in signers for label in labels for n in range(images)))
    return root


def settings(root: Path | None, **others: Any) -> DataConfig:
    return DataConfig(root=None if root is None else str(root), **others)


def reasons(manifest: Manifest) -> dict[str, tuple[str, str]]:
    """Path → (split, reason) of the rows that have a reason."""
    rows = manifest.table.select(["path", "split", "reason"]).to_pylist()
    return {row["path"]: (row["split"], row["reason"]) for row in rows if row["reason"]}


def refusal(data: DataConfig) -> str:
    with pytest.raises(UserError) as caught:
        build(data)
    message = str(caught.value)
    assert "\n" not in message
    return message


# --- what is found ---


@pytest.mark.parametrize(
    ("preset", "path", "label", "signer"),
    [
        ("massey", "a/hand1_a_top_seg_2_cropped.jpeg", "a", "1"),
        ("massey", "asl/7/hand5_7_bot_seg_1_cropped.jpeg", "7", "5"),
        ("surrey", "A/k/color_0_0002.png", "k", "A"),
        ("surrey", "dataset5/B/x/color_12_0431.png", "x", "B"),
        ("surrey", "dataset5/B/x/depth_12_0431.png", None, None),
        ("isl-hs", "Person3-Q-1-20.jpg", "Q", "3"),
        ("isl-hs", "frames/all/Person12-A-2-7.jpeg", "A", "12"),
        ("signer-label", "ann/space/1.png", "space", "ann"),
        ("signer-label", "set/ann/space/1.png", None, None),
        ("label", "space/1.png", "space", None),
    ],
)
def test_presets(preset: str, path: str, label: str | None, signer: str | None) -> None:
    match = re.fullmatch(PRESETS[preset], path)
    named = match.groupdict() if match else {}
    assert (named.get("label"), named.get("signer")) == (label, signer)


def test_rows_say_what_the_files_hold(tmp_path: Path) -> None:
    manifest = build(settings(fill(tmp_path)))
    assert manifest.table.schema.equals(SCHEMA)
    assert manifest.root == tmp_path
    paths = manifest.table["path"].to_pylist()
    assert paths == sorted(paths)
    assert len(paths) == 24
    first = manifest.table.to_pylist()[0]
    file = tmp_path / "1/a/0.png"
    assert (first["path"], first["label"], first["signer"]) == ("1/a/0.png", "a", "1")
    assert (first["width"], first["height"]) == (20, 16)
    assert (first["bytes"], first["mtime_ns"]) == (file.stat().st_size, file.stat().st_mtime_ns)


def test_images_that_cannot_be_used_are_set_aside_with_a_reason(tmp_path: Path) -> None:
    fill(tmp_path)
    (tmp_path / "1/a/empty.png").touch()
    (tmp_path / "1/a/text.jpg").write_text("no image")
    (tmp_path / "1/a/cut.png").write_bytes(png(0)[:300])
    (tmp_path / "1/a/gone.png").symlink_to(tmp_path / "nowhere")
    put(tmp_path, "stray.png", "1/a/deep/er.JPG")
    assert reasons(build(settings(tmp_path))) == {
        "1/a/empty.png": ("set-aside", "empty file (0 bytes)"),
        "1/a/text.jpg": ("set-aside", "not an image of a known format"),
        "1/a/cut.png": ("set-aside", "cannot be decoded: image file is truncated"),
        "1/a/gone.png": ("set-aside", "cannot be read: No such file or directory"),
        "stray.png": ("set-aside", "does not match the pattern"),
        "1/a/deep/er.JPG": ("set-aside", "does not match the pattern"),
    }


def test_hidden_files_and_others_are_left_out_and_named(tmp_path: Path) -> None:
    put(fill(tmp_path), ".cache/a/1.png", "1/a/.hidden.png")
    (tmp_path / "LICENSE").touch()
    (tmp_path / "1/notes.txt").touch()
    manifest = build(settings(tmp_path))
    assert manifest.table.num_rows == 24
    assert sorted(manifest.left_out) == [
        f"2 left out, hidden: {tmp_path}/.cache, {tmp_path}/1/a/.hidden.png",
        f"2 left out, no picture: {tmp_path}/1/notes.txt, {tmp_path}/LICENSE",
    ]


def test_links_are_followed_once_and_loops_end(tmp_path: Path) -> None:
    root, elsewhere = tmp_path / "root", tmp_path / "elsewhere"
    fill(root, signers="123")
    fill(elsewhere, signers="4")
    (root / "4").symlink_to(elsewhere / "4")
    (elsewhere / "4" / "back").symlink_to(elsewhere / "4")
    (elsewhere / "4" / "up").symlink_to(root)
    (root / "5").symlink_to(root / "1")
    (root / "self").symlink_to(root / "self")
    manifest = build(settings(root))
    assert manifest.signers("train", "test") == ["1", "2", "3", "4"]
    assert manifest.table.num_rows == 24


def test_a_name_that_is_not_utf8_is_set_aside(tmp_path: Path) -> None:
    fill(tmp_path)
    name = os.fsdecode(os.fsencode(tmp_path) + b"/1/a/\xff.png")
    try:
        Path(name).write_bytes(png(0))
    except OSError:
        pytest.skip("this file system takes only UTF-8 names")
    found = reasons(build(settings(tmp_path)))
    assert found == {r"1/a/\xff.png": ("set-aside", "the file's name is not UTF-8")}


def test_progress_counts_every_row(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    build(settings(fill(tmp_path)), lambda done, total: seen.append((done, total)))
    assert seen == [(n, 24) for n in range(1, 25)]


# --- duplicates ---


def test_copies_under_one_name_keep_the_first(tmp_path: Path) -> None:
    fill(tmp_path)
    (tmp_path / "1/a/copy.png").write_bytes((tmp_path / "1/a/1.png").read_bytes())
    found = reasons(build(settings(tmp_path)))
    assert found == {"1/a/copy.png": ("set-aside", "same image as 1/a/1.png")}


def test_one_image_under_two_labels_or_signers_is_never_used(tmp_path: Path) -> None:
    fill(tmp_path)
    (tmp_path / "1/b/0.png").write_bytes((tmp_path / "1/a/0.png").read_bytes())
    (tmp_path / "3/c/0.png").write_bytes((tmp_path / "2/c/0.png").read_bytes())
    assert reasons(build(settings(tmp_path))) == {
        "1/a/0.png": ("set-aside", "same image as 1/b/0.png, which has label b and signer 1"),
        "1/b/0.png": ("set-aside", "same image as 1/a/0.png, which has label a and signer 1"),
        "2/c/0.png": ("set-aside", "same image as 3/c/0.png, which has label c and signer 3"),
        "3/c/0.png": ("set-aside", "same image as 2/c/0.png, which has label c and signer 2"),
    }


# --- splits ---


@pytest.mark.parametrize(("share", "held_out"), [(0.01, 1), (0.25, 2), (0.5, 3), (0.99, 4)])
def test_a_share_of_signers_is_held_out_whole(tmp_path: Path, share: float, held_out: int) -> None:
    manifest = build(settings(fill(tmp_path, signers="123456", images=1), test_share=share))
    train, test = manifest.signers("train"), manifest.signers("test")
    assert len(test) == held_out
    assert sorted(train + test) == list("123456")


def test_the_seed_alone_draws_the_signers(tmp_path: Path) -> None:
    fill(tmp_path, signers="12345678", images=1)
    drawn = [build(settings(tmp_path, seed=seed)).signers("test") for seed in (0, 0, 1, 2, -1)]
    assert drawn[0] == drawn[1]
    assert len({tuple(signers) for signers in drawn}) > 1


def test_named_signers_and_wrong_gestures(tmp_path: Path) -> None:
    fill(tmp_path, labels="abcxy", images=1)
    manifest = build(
        settings(tmp_path, labels=["a", "b"], near_labels=["x"], test_signers=["2", "4"])
    )
    assert manifest.labels == ["a", "b"]
    assert manifest.signers("train") == ["1", "3"]
    assert manifest.signers("test") == ["2", "4"]
    assert manifest.rows("near")["path"].to_pylist() == ["2/x/0.png", "4/x/0.png"]
    counts = {"train": 4, "extra": 0, "test": 4, "near": 2, "far": 0, "unused": 10, "set-aside": 0}
    assert manifest.counts() == counts
    assert list(manifest.counts()) == list(SPLITS)
    found = reasons(manifest)
    assert found["1/x/0.png"] == ("unused", "wrong gesture of a training signer")
    assert found["2/c/0.png"] == ("unused", "label not among data.labels")
    assert manifest.rows("train", "near").num_rows == 6


def test_extra_signers_are_listed_for_fine_tuning_only(tmp_path: Path) -> None:
    own, extra = fill(tmp_path / "own", images=1), fill(tmp_path / "extra", "89", "bcx", 1)
    (extra / "8/b/cut.png").write_bytes(png(1)[:60])
    data = settings(own, extra_signers=str(extra), test_signers=["4"])
    manifest = build(data)
    assert manifest.rows("extra")["path"].to_pylist() == [
        str(extra / name) for name in ("8/b/0.png", "8/c/0.png", "9/b/0.png", "9/c/0.png")
    ]
    assert manifest.signers("extra") == ["8", "9"]
    assert manifest.signers("train", "test") == list("1234")
    assert manifest.labels == ["a", "b", "c"]
    found = reasons(manifest)
    assert found[str(extra / "8/x/0.png")] == ("unused", "label not learned")
    assert found[str(extra / "8/b/cut.png")][0] == "set-aside"
    assert manifest.sha256 != build(replace(data, extra_signers=None)).sha256
    assert changed(manifest) == []
    (extra / "9/c/0.png").write_bytes(png(2))
    assert changed(manifest) == [str(extra / "9/c/0.png")]


def test_an_image_shared_with_an_extra_signer_is_set_aside(tmp_path: Path) -> None:
    own, extra = fill(tmp_path / "own", images=1), fill(tmp_path / "extra", "89", "ab", 1)
    (extra / "8/a/0.png").write_bytes((own / "4/a/0.png").read_bytes())
    manifest = build(settings(own, extra_signers=str(extra), test_signers=["4"]))
    other = extra / "8/a/0.png"
    assert reasons(manifest) == {
        "4/a/0.png": ("set-aside", f"same image as {other}, which has label a and signer 8"),
        str(other): ("set-aside", "same image as 4/a/0.png, which has label a and signer 4"),
    }


@pytest.mark.parametrize(
    ("signers", "labels", "says"),
    [
        (
            "48",
            "ab",
            "is {extra}: 4 is also the name of a signer of your own images; nobody may be",
        ),
        ("89", "xy", "is {extra}: it shows none of the labels learned (a, b, c) but x, y"),
        ("", "", "is {extra}: there is no such folder"),
    ],
)
def test_extra_signers_that_cannot_help_are_refused(
    tmp_path: Path, signers: str, labels: str, says: str
) -> None:
    own, extra = fill(tmp_path / "own"), fill(tmp_path / "extra", signers, labels)
    assert f"data.extra_signers {says.format(extra=extra)}" in refusal(
        settings(own, extra_signers=str(extra))
    )


def test_extra_signers_in_another_layout_are_refused(tmp_path: Path) -> None:
    own = fill(tmp_path / "own")
    put(tmp_path / "extra", "a/0.png")
    message = refusal(settings(own, extra_signers=str(tmp_path / "extra")))
    assert message.endswith("extra: its images must be <signer>/<label>/<file>")


def test_labels_that_no_other_signer_can_check_are_unused(tmp_path: Path) -> None:
    fill(tmp_path)
    put(tmp_path, "1/q/0.png", "4/q/0.png", "4/z/0.png")
    manifest = build(settings(tmp_path, test_signers=["4"]))
    assert manifest.labels == ["a", "b", "c"]
    assert reasons(manifest) == {
        "1/q/0.png": ("unused", "only training signer 1 shows this label: unchecked"),
        "4/q/0.png": ("unused", "only training signer 1 shows this label: unchecked"),
        "4/z/0.png": ("unused", "no training signer shows this label"),
    }


def test_without_signers_a_share_of_each_label_is_held_out(tmp_path: Path) -> None:
    put(tmp_path, *(f"{label}/{n}.png" for label in "abx" for n in range(8)))
    put(tmp_path, "c/0.png", "d/0.png", "d/1.png")
    manifest = build(settings(tmp_path, preset="label", signers="none", near_labels=["x"]))
    test = manifest.rows("test")["label"].to_pylist()
    assert test == ["a", "a", "b", "b"]
    assert manifest.labels == ["a", "b", "d"]
    assert manifest.counts() == {
        "train": 14,
        "extra": 0,
        "test": 4,
        "near": 8,
        "far": 0,
        "unused": 1,
        "set-aside": 0,
    }
    assert manifest.signers("train", "test", "near") == [""]
    assert reasons(manifest) == {"c/0.png": ("unused", "the only image to train this label on")}
    assert gaps(manifest) == [
        "not used, 1 images labelled c: the only image to train this label on"
    ]


def test_without_signers_the_last_files_are_held_out(tmp_path: Path) -> None:
    """In the order in which people number them, and whatever the seed is: the frames of a video."""
    put(tmp_path, *(f"{label}/{label}{n}.png" for label in "AB" for n in range(1, 13)))
    for seed in (0, 1):
        manifest = build(settings(tmp_path, preset="label", signers="none", seed=seed))
        held_out = manifest.rows("test")["path"].to_pylist()
        assert held_out == [f"{x}/{x}{n}.png" for x in "AB" for n in (10, 11, 12)]


def test_images_without_a_sign_are_a_far_set_of_the_test_signers(tmp_path: Path) -> None:
    put(fill(tmp_path, images=1), *(f"{signer}/nothing/0.png" for signer in "1234"))
    manifest = build(settings(tmp_path, far_labels=["nothing"], test_signers=["4"]))
    assert manifest.labels == ["a", "b", "c"]
    assert manifest.rows("far")["path"].to_pylist() == ["4/nothing/0.png"]
    assert reasons(manifest)["1/nothing/0.png"] == (
        "unused",
        "image without a sign of a training signer",
    )
    assert manifest.sha256 != build(settings(tmp_path, labels=list("abc"))).sha256


def test_signers_in_the_path_are_ignored_when_none_are_wanted(tmp_path: Path) -> None:
    manifest = build(settings(fill(tmp_path, signers="1", images=4), signers="none"))
    assert manifest.signers("train") == [""]
    assert manifest.counts()["test"] == 3


def test_one_name_in_several_spellings(tmp_path: Path) -> None:
    """An accent as one or two code points, and a space around, are the same name; capital letters
    are told.
    """
    for signer in "1234":
        put(tmp_path, f"{signer}/é/0.png" if signer < "3" else f"{signer}/e\u0301/0.png")
        put(tmp_path, f"{signer}/{'C' if signer == '4' else 'c'} /0.png", f"{signer}/b/0.png")
    manifest = build(settings(tmp_path, test_signers=["3"]))
    assert manifest.labels == ["b", "c", "é"]
    assert gaps(manifest) == [
        "not used, 1 images labelled C: only training signer 4 shows this label: unchecked",
        "labels C and c differ only by capital letters and are taken for several",
        "signer 4 has no image of: c",
    ]


def test_every_label_that_is_not_used_is_named_with_its_reason(tmp_path: Path) -> None:
    put(fill(tmp_path, labels="abcd"), "1/q/0.png", "1/r/0.png", "4/z/0.png", "1/w/0.png")
    (tmp_path / "1/w/0.png").write_bytes(b"")
    found = gaps(build(settings(tmp_path, labels=[*"abqrz"], test_signers=["4"])))
    assert found == [
        "not used, 16 images labelled c, d: label not among data.labels",
        "not used, 1 images labelled z: no training signer shows this label",
        "not used, 2 images labelled q, r: only training signer 1 shows this label: unchecked",
        "not used, 1 images labelled w: set aside",
    ]


def test_gaps_name_what_each_signer_lacks(tmp_path: Path) -> None:
    fill(tmp_path)
    for path in ("1/a", "3/b", "3/c"):
        for n in (0, 1):
            (tmp_path / path / f"{n}.png").unlink()
    assert gaps(build(settings(tmp_path, test_signers=["4"]))) == [
        "signer 1 has no image of: a",
        "signer 3 has no image of: b, c",
    ]


# --- tables ---


def write_table(file: Path, /, **columns: list[Any]) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    if file.suffix == ".csv":
        pa.csv.write_csv(pa.table(columns), file)
    else:
        pa.parquet.write_table(pa.table(columns), file)
    return file


def test_a_table_names_images_labels_and_signers(tmp_path: Path) -> None:
    fill(tmp_path / "sub=1", signers="123", labels="ab", images=1)
    absolute = str(tmp_path / "sub=1" / "3/b/0.png")
    paths = ["1/a/0.png", "1/b/0.png", "2/a/0.png", "2/b/0.png", "3/a/0.png", absolute, "gone.png"]
    columns = {"path": paths, "label": list("0101010"), "signer": list("1122333")}
    for suffix in ("csv", "parquet"):
        columns["label"] = ["01" if label == "1" else "NA" for label in "0101010"]
        table = write_table(tmp_path / "sub=1" / f"t.{suffix}", **columns)
        manifest = build(settings(None, table=str(table), test_signers=["3"]))
        assert manifest.root == tmp_path / "sub=1"
        assert manifest.labels == ["01", "NA"]  # neither a number nor a missing value
        assert manifest.rows("test")["path"].to_pylist() == ["3/a/0.png", "3/b/0.png"]
        why = "cannot be read: No such file or directory"
        assert reasons(manifest) == {"gone.png": ("set-aside", why)}


def test_spaces_around_a_tables_names_do_not_count(tmp_path: Path) -> None:
    fill(tmp_path, signers="123", labels="ab", images=1)
    paths = [f"{s}/{label}/0.png" for s in "123" for label in "ab"]
    columns = {
        "path": paths,
        "label": ["a", "b ", " a", "b", "a", "b"],
        "signer": [*"11", "2 ", *"233"],
    }
    manifest = build(settings(None, table=str(write_table(tmp_path / "t.csv", **columns))))
    assert manifest.labels == ["a", "b"]
    assert manifest.signers("train", "test") == ["1", "2", "3"]


def test_a_table_with_a_root_and_with_numbers(tmp_path: Path) -> None:
    fill(tmp_path / "images", signers="123", labels="ab", images=1)
    paths = [f"{s}/{label}/0.png" for s in "123" for label in "ab"]
    table = write_table(
        tmp_path / "t.parquet", path=paths, label=[0, 1, 0, 1, 0, None], signer=[1, 1, 2, 2, 3, 3]
    )
    manifest = build(settings(tmp_path / "images", table=str(table), test_signers=["3"]))
    assert manifest.counts() == {
        "train": 4,
        "extra": 0,
        "test": 1,
        "near": 0,
        "far": 0,
        "unused": 0,
        "set-aside": 1,
    }
    assert reasons(manifest) == {"3/b/0.png": ("set-aside", "the table gives no label")}


def test_an_image_listed_twice_is_used_once(tmp_path: Path) -> None:
    fill(tmp_path, signers="1", labels="ab", images=4)
    paths = [f"1/{label}/{n}.png" for label in "ab" for n in range(4)]
    table = write_table(
        tmp_path / "t.csv", path=[*paths, paths[0], paths[7]], label=list("aaaabbbbaa")
    )
    manifest = build(settings(None, table=str(table), signers="none"))
    assert manifest.counts() == {
        "train": 5,
        "extra": 0,
        "test": 2,
        "near": 0,
        "far": 0,
        "unused": 0,
        "set-aside": 3,
    }
    assert reasons(manifest)["1/a/0.png"] == ("set-aside", "same image as 1/a/0.png")


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"path": ["a"], "signer": ["1"]}, "lacks the column label and has path, signer"),
        ({"path": ["a"], "label": ["x"]}, "lacks the column signer.*--data.signers none"),
        ({"path": [], "label": [], "signer": []}, "it has no rows"),
        ({"path": [""], "label": ["x"], "signer": ["1"]}, "row 1 has no path"),
        ({"path": ["a"], "label": ["x"], "signer": [""]}, "a has no signer.*--data.signers none"),
        ({"path": ["a"], "label": [["x"]], "signer": ["1"]}, "must be columns of text"),
    ],
)
def test_tables_that_are_refused(tmp_path: Path, columns: dict[str, Any], message: str) -> None:
    table = tmp_path / "t.parquet"
    pa.parquet.write_table(pa.table(columns), table)
    assert re.search(message, refusal(settings(None, table=str(table))))


def test_a_table_of_pixels_says_how_to_convert_it(tmp_path: Path) -> None:
    """As Sign-Language-MNIST: its columns are not all printed, and the page's lines convert it."""
    rows = np.random.default_rng(0).integers(0, 256, (6, 784))
    text = ",".join(["label", *(f"pixel{i}" for i in range(1, 785))]) + "\n"
    for label, row in zip((0, 1, 0, 1, 24, 24), rows, strict=True):
        text += f"{label}," + ",".join(map(str, row)) + "\n"
    (tmp_path / "sign_mnist_train.csv").write_text(text)
    message = refusal(settings(None, table=str(tmp_path / "sign_mnist_train.csv")))
    assert "it holds pixels in 784 columns, pixel1 to pixel784" in message
    assert len(message) < 400
    assert "is read by --data.table" in refusal(settings(tmp_path))
    assert "is given by --data.table" in refusal(settings(tmp_path / "sign_mnist_train.csv"))
    page = (Path(__file__).parents[2] / "docs" / "data.md").read_text()
    code = page.split("## Pixels in a table")[1].split("```python\n")[1].split("```")[0]
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
    images = settings(tmp_path / "sign-mnist", preset="label", signers="none", test_share=0.4)
    assert refusal(images).startswith("no image is left to test on")
    shown = np.asarray(Image.open(tmp_path / "sign-mnist" / "Y" / "4.png"))
    assert np.array_equal(shown, rows[4].reshape(28, 28))


def test_many_columns_are_not_all_named(tmp_path: Path) -> None:
    table = write_table(tmp_path / "t.csv", **{f"column {i}": [i] for i in range(200)})
    message = refusal(settings(None, table=str(table)))
    assert "it lacks the column path and has column 0, column 1" in message
    assert "and 160 more" in message
    assert len(message) < 800


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.csv", None, "it cannot be read"),
        ("t.csv", "", "it cannot be read"),
        ("t.csv", "path,label,signer\na,b\n", "it cannot be read"),
        ("t.parquet", "path,label,signer\n", "it cannot be read"),
        ("t.xlsx", "", "must end in .csv or .parquet"),
    ],
)
def test_unreadable_tables(tmp_path: Path, name: str, content: str | None, message: str) -> None:
    if content is not None:
        (tmp_path / name).write_text(content)
    text = refusal(settings(None, table=str(tmp_path / name)))
    assert message in text
    assert name in text


# --- refusals ---


def test_roots_that_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "data.root is not set" in refusal(settings(None))
    assert "there is no such folder" in refusal(settings(tmp_path / "gone"))
    (tmp_path / "file").touch()
    assert "it must be a folder" in refusal(settings(tmp_path / "file"))
    assert f"it holds no image; 1 left out, no picture: {tmp_path}/file" in refusal(
        settings(tmp_path)
    )

    def forbid(folder: str) -> None:
        raise PermissionError(13, "Permission denied", folder)

    monkeypatch.setattr(os, "scandir", forbid)  # tests may run as root, whom chmod cannot stop
    assert f"left out, cannot be read (Permission denied): {tmp_path}" in refusal(
        settings(tmp_path)
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pattern": "("}, r"data.pattern is \(: not a regular expression"),
        ({"pattern": ".*"}, r"must have a group \(\?P<label>"),
        ({"preset": "label"}, "data.preset label is .* no group .*signer.*--data.signers none"),
        ({"preset": "massey"}, "data.preset massey matches no file below .*1/a/0.png"),
        ({"pattern": "(?P<signer>x?)./(?P<label>.)/.*"}, "1/a/0.png has no signer"),
        ({"labels": ["a", "q", "r"]}, "data.labels names q, r: .* there are a, b, c"),
        ({"near_labels": ["q"]}, "data.near_labels names q: no usable image"),
        ({"labels": ["a", "b"], "near_labels": ["b"]}, "both name b"),
        ({"labels": ["a"]}, r"1 label\(s\) to learn \(a\): it takes 2"),
        ({"near_labels": ["a", "b", "c"]}, r"0 label\(s\) to learn \(none\)"),
        ({"test_signers": ["1", "9"]}, "data.test_signers names 9: .* there are 1, 2, 3"),
        ({"test_signers": ["1", "2"]}, r"leaves 1 training signer\(s\) \(3\), and it takes 2"),
        ({"test_signers": ["1"], "signers": "none"}, "with data.signers none it must be empty"),
        ({"min_side": 17}, "all 18 were set aside, for example 1/a/0.png: 20 x 16"),
    ],
)
def test_settings_that_do_not_fit(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    data = replace(settings(fill(tmp_path, signers="123")), **changes)
    assert re.search(message, refusal(data))


@pytest.mark.parametrize(("signers", "message"), [("7", "one signer only (7)"), ("12", "two sign")])
def test_too_few_signers(tmp_path: Path, signers: str, message: str) -> None:
    assert message in refusal(settings(fill(tmp_path, signers=signers)))


def test_too_few_labels_left(tmp_path: Path) -> None:
    put(tmp_path, "1/a/0.png", "2/a/0.png", "2/b/0.png", "3/a/0.png", "3/c/0.png")
    data = settings(tmp_path, test_signers=["3"])
    assert "1 label(s) left to learn (a)" in refusal(data)


def test_nothing_left_to_test_on(tmp_path: Path) -> None:
    fill(tmp_path, signers="12")
    put(tmp_path, "3/z/0.png")
    data = settings(tmp_path, test_signers=["3"])
    assert "no image is left to test on" in refusal(data)


def test_what_names_show_is_refused_before_reading(tmp_path: Path) -> None:
    seen: list[int] = []
    with pytest.raises(UserError):
        build(settings(fill(tmp_path, signers="1")), lambda done, total: seen.append(done))
    assert seen == []


# --- the file ---


def test_round_trip(tmp_path: Path) -> None:
    fill(tmp_path / "images")
    (tmp_path / "images" / "LICENSE").touch()
    manifest = build(settings(tmp_path / "images"))
    path = tmp_path / "runs" / "lr=3" / "manifest.parquet"
    for _ in range(2):
        write(manifest, path)
    assert [file.name for file in path.parent.iterdir()] == ["manifest.parquet"]
    again = read(path)
    assert again == manifest
    assert again.sha256 == manifest.sha256


def test_a_failed_write_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = build(settings(fill(tmp_path / "images")))
    path = tmp_path / "manifest.parquet"
    write(manifest, path)
    before = path.read_bytes()

    def fail(table: pa.Table, file: Path) -> None:
        Path(file).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pa.parquet, "write_table", fail)
    with pytest.raises(StorageError, match=r"/manifest\.parquet: cannot be written \(No space"):
        write(manifest, path)
    assert path.read_bytes() == before
    assert sorted(file.name for file in tmp_path.iterdir()) == ["images", "manifest.parquet"]


def test_files_that_are_no_manifest(tmp_path: Path) -> None:
    path = tmp_path / "m.parquet"
    with pytest.raises(UserError, match="cannot be read as a manifest"):
        read(path)
    path.write_bytes(b"junk")
    with pytest.raises(UserError, match="cannot be read as a manifest"):
        read(path)
    write_table(path, path=["a"])
    with pytest.raises(UserError, match="is not a manifest"):
        read(path)
    manifest = build(settings(fill(tmp_path / "images")))
    write(replace(manifest, table=manifest.table.drop_columns("sha256")), path)
    with pytest.raises(UserError, match="its columns differ"):
        read(path)


def test_the_hash_follows_what_is_used_and_not_where_it_lies(tmp_path: Path) -> None:
    here, there = (settings(fill(tmp_path / name), test_signers=["1"]) for name in ("x", "y"))
    first = build(here).sha256
    put(tmp_path / "y", "stray.png")
    assert build(there).sha256 == first
    assert build(replace(here, test_signers=[Name("2")])).sha256 != first
    put(tmp_path / "y", "2/a/new.png")
    assert build(there).sha256 != first


def test_changed_names_what_is_gone_or_different(tmp_path: Path) -> None:
    fill(tmp_path)
    (tmp_path / "1/a/broken.png").touch()
    manifest = build(settings(tmp_path))
    assert changed(manifest) == []
    touched, same_size, longer, gone = (tmp_path / f"{s}/b/0.png" for s in "1234")
    os.utime(touched, ns=(1, 1))
    content = same_size.read_bytes()
    same_size.write_bytes(content[:-1] + b"x")
    os.utime(same_size, ns=(1, 1))
    longer.write_bytes(longer.read_bytes() + b"x")
    gone.unlink()
    (tmp_path / "1/a/broken.png").unlink()  # was never in use
    assert changed(manifest) == ["2/b/0.png", "3/b/0.png", "4/b/0.png"]


@pytest.mark.skipif(not MASSEY.is_dir(), reason="the Massey images are not next to the repository")
def test_massey_letters_with_signer_5_held_out() -> None:
    data = settings(
        MASSEY,
        preset="massey",
        labels=list("abcdefghijklmnopqrstuvwxyz"),
        near_labels=list("134578"),
        test_signers=["5"],
    )
    manifest = build(data)
    assert manifest.table.num_rows == 2515
    letters = manifest.rows("train", "test")["signer"].to_pylist()
    per_signer = {signer: letters.count(signer) for signer in sorted(set(letters))}
    assert per_signer == {"1": 650, "2": 645, "3": 130, "4": 130, "5": 260}
    expected = {"train": 1555, "test": 260, "near": 60, "unused": 640}
    assert {split: n for split, n in manifest.counts().items() if n} == expected
    assert manifest.signers("train") == ["1", "2", "3", "4"]
    assert manifest.signers("test", "near") == ["5"]
    assert manifest.labels == list("abcdefghijklmnopqrstuvwxyz")
    assert gaps(manifest) == [
        "not used, 280 images labelled 0, 2, 6, 9: label not among data.labels"
    ]
