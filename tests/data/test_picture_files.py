"""Which files below folders are taken, and how the others are named."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from PIL import Image

from sign_ensemble.core.config import DataConfig
from sign_ensemble.core.errors import UserError
from sign_ensemble.data.far_ood import folder_images
from sign_ensemble.data.picture_files import named_pictures, pictures_below
from sign_ensemble.data.sources import find

KIND = "png"


def picture(path: Path, kind: str = KIND) -> Path:
    """A small picture of this format, whatever the name says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as opened:
        Image.new("RGB", (20, 20), "red").save(opened, kind)
    return path


@pytest.fixture
def messy(tmp_path: Path) -> Path:
    """A folder as computers leave it."""
    root = tmp_path / "photos"
    for name in ("b/1.JPG", "b/2.jfif", "b/3.jpe", "b/x.jpg/inside.png", "b/no_ending"):
        picture(root / name)
    for name in (".hidden.png", "b/._1.JPG", ".ipynb_checkpoints/1.png", "__MACOSX/b/1.JPG"):
        picture(root / name)
    (root / "b/notes.txt").write_text("kept by somebody")
    (root / "clip.mov").write_bytes(b"\0\0\0\x14ftypqt  ")
    (root / "scan.pdf").write_bytes(b"%PDF-1.7")
    (root / "phone.HEIC").write_bytes(b"\0\0\0\x18ftypheic")
    (root / "gone.png").symlink_to(tmp_path / "nowhere")
    (root / "gone.txt").symlink_to(tmp_path / "nowhere")
    (root / "loop").symlink_to(root / "loop")
    (root / "again").symlink_to(root / "b")
    picture(tmp_path / "elsewhere/4.png")
    (tmp_path / "elsewhere/up").symlink_to(root)
    (root / "linked").symlink_to(tmp_path / "elsewhere")
    os.mkfifo(root / "pipe")
    return root


TAKEN = ["b/1.JPG", "b/2.jfif", "b/3.jpe", "b/no_ending", "b/x.jpg/inside.png", "gone.png",
         "linked/4.png", "phone.HEIC"]  # fmt: skip
LEFT_OUT = {
    "hidden": [".hidden.png", ".ipynb_checkpoints", "b/._1.JPG"],
    "a system's or program's folder": ["__MACOSX"],
    "a link to a folder that is read anyway": ["again", "linked/up"],
    "no picture": ["b/notes.txt", "pipe"],
    "a video: take pictures from it, as with `ffmpeg -i FILE -vf fps=5 frame-%04d.jpg`": [
        "clip.mov"
    ],
    "PDF: save its pages as pictures, as with `pdftoppm -jpeg FILE page`": ["scan.pdf"],
    "cannot be read (No such file or directory)": ["gone.txt"],
    "cannot be read (Too many levels of symbolic links)": ["loop"],
}


@pytest.mark.timeout(30)
def test_what_is_taken_and_what_is_left_out_by_name(messy: Path) -> None:
    found = pictures_below(messy)
    assert [file.relative_to(messy).as_posix() for file in found.files] == TAKEN
    left_out = {
        reason: sorted(path.relative_to(messy).as_posix() for path in paths)
        for reason, paths in found.left_out.items()
    }
    assert left_out == LEFT_OUT
    assert f"1 left out, a system's or program's folder: {messy}/__MACOSX" in found.words()


def test_every_command_sees_the_same(messy: Path, tmp_path: Path) -> None:
    expected = [str(messy / name) for name in TAKEN]
    assert list(map(str, named_pictures([str(messy)]).files)) == expected
    words = named_pictures([str(messy)]).words()
    sources = find(DataConfig(root=str(messy), pattern="(?P<signer>b?).*(?P<label>.)"))
    assert [str(messy / row.path) for row in sources.rows] == expected
    assert list(sources.left_out) == words
    link = tmp_path / "link"
    link.symlink_to(messy)
    assert len(named_pictures([str(link)]).files) == len(TAKEN)
    _, files, set_aside = folder_images(messy, DataConfig(size=32, crop="none"))
    assert [str(file) for file in files] == [
        name for name in expected if not name.endswith(("gone.png", "HEIC"))
    ]
    assert set_aside == [
        f"{messy}/gone.png: cannot be read: No such file or directory",
        f"{messy}/phone.HEIC: HEIC: install pillow-heif or convert it to JPEG",
        *words,
    ]


def test_what_is_named_is_taken_and_what_a_pattern_matches_is_looked_at(messy: Path) -> None:
    named = [str(messy / name) for name in (".hidden.png", "b/notes.txt", "__MACOSX")]
    assert [file.name for file in named_pictures(named).files] == [
        ".hidden.png", "notes.txt", "1.JPG",
    ]  # fmt: skip
    found = named_pictures([f"{messy}/b/*"])
    assert [file.name for file in found.files] == [
        "1.JPG", "2.jfif", "3.jpe", "no_ending", "inside.png",
    ]  # fmt: skip
    assert found.words() == [f"1 left out, no picture: {messy}/b/notes.txt"]


def test_many_are_counted(tmp_path: Path) -> None:
    picture(tmp_path / "1.png")
    for i in range(5):
        (tmp_path / f"{i}.txt").touch()
    [line] = pictures_below(tmp_path).words()
    assert line == (
        f"5 left out, no picture: {tmp_path}/0.txt, {tmp_path}/1.txt, {tmp_path}/2.txt and 2 more"
    )


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that all may read, with one that nobody may."""
    place = Path(tempfile.mkdtemp())
    place.chmod(0o755)
    picture(place / "locked/1.png")
    (place / "locked").chmod(0)
    yield place
    (place / "locked").chmod(0o700)
    shutil.rmtree(place)


@contextmanager
def as_nobody() -> Iterator[None]:
    """Root, whom nothing refuses, is nobody in the block."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)


def test_a_folder_that_may_not_be_read(place: Path) -> None:
    """It is named; the others are read, and where nothing is left that is refused."""
    line = f"1 left out, cannot be read (Permission denied): {place}/locked"
    for given in (place, place / "locked"):
        with pytest.raises(UserError, match="no image files") as caught, as_nobody():
            named_pictures([str(given)])
        assert line in str(caught.value)
    with pytest.raises(UserError, match="it holds no image") as caught, as_nobody():
        find(DataConfig(root=str(place)))
    assert line in str(caught.value)
    picture(place / "a/b/2.png")
    with as_nobody():
        assert named_pictures([str(place / "locked"), str(place / "a")]).words() == [line]
        assert find(DataConfig(root=str(place))).left_out == (line,)


@pytest.mark.parametrize("given", ["https://example.org/a.jpg", "s3://bucket/photos"])
def test_addresses_are_refused_with_the_remedy(given: str) -> None:
    remedy = "images are read from files of this machine; download them and name their folder"
    for look in (
        lambda: named_pictures([given]),
        lambda: find(DataConfig(root=given)),
        lambda: find(DataConfig(table=given)),
        lambda: folder_images(given, DataConfig()),
    ):
        with pytest.raises(UserError, match=remedy) as caught:
            look()
        assert given in str(caught.value)


def test_home_and_file_uris(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    file = picture(tmp_path / "photos/b/1.png")
    for given in ("~/photos", "~/photos/b/*.png", f"file://{tmp_path}/photos"):
        assert named_pictures([given]).files == [file]
    assert find(DataConfig(root="~", pattern="(?P<signer>.*)/(?P<label>b)/.*")).root == tmp_path


def test_a_root_that_is_an_archive_says_so(tmp_path: Path) -> None:
    (tmp_path / "photos.zip").write_bytes(b"PK\x03\x04")
    with pytest.raises(UserError, match=r"it is a file \(an archive: unpack it and name its fol"):
        find(DataConfig(root=str(tmp_path / "photos.zip")))
