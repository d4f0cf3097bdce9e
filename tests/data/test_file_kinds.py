"""Files that are no picture we read: called what they are, with what to do."""

from __future__ import annotations

import sys
from io import BytesIO
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image, TiffImagePlugin

from sign_ensemble.data import images
from sign_ensemble.data.file_kinds import IMAGE_SUFFIXES, kind_of
from sign_ensemble.data.images import SetAside, decode_rgb


def encoded(kind: str, **more: object) -> bytes:
    """A small picture of smooth colours."""
    pixels = np.linspace(0, 255, 20 * 20 * 3).reshape(20, 20, 3).astype(np.uint8)
    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **more)
    return buffer.getvalue()


def reason(content: bytes, name: str) -> str:
    """Why it cannot be used."""
    with pytest.raises(SetAside) as caught:
        decode_rgb(content, max_pixels=10**6, min_side=1, name=name)
    return str(caught.value)


FILES = {
    "HEIC: install pillow-heif or convert it to JPEG": [
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "IMG_1.jpg"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic", "IMG_1.HEIC"),
    ],
    "a video: take pictures from it": [
        (b"\0\0\0\x20ftypisom\0\0\2\0isomiso2", "a.jpg"),
        (b"\0\0\0\x14ftypqt  ", "a.MOV"),
        (b"RIFF\x10\0\0\0AVI LIST", "a.avi"),
        (b"\x1aE\xdf\xa3\0", "a.webm"),
        (b"not known", "a.mp4"),
    ],
    "PDF: save its pages": [(b"%PDF-1.7\n", "scan.jpg")],
    "SVG, a drawing: convert": [
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "a.svg"),
        (b"<?xml version='1.0'?>\n<!-- drawn -->\n<svg/>", "a.png"),
    ],
    "an archive: unpack it": [(b"PK\x03\x04\x14", "a.zip"), (b"\x1f\x8b\x08", "a.tgz")],
    "a web page: download": [(b"\n<!DOCTYPE html><svg/>", "a.jpg"), (b"<html>", "a")],
    "a camera's raw file: export it": [
        (b"II*\0\x10\0\0\0CR\2\0", "IMG.CR2"),
        (b"\0\0\0\x18ftypcrx ", "IMG.CR3"),
        (b"FUJIFILMCCD-RAW ", "a.raf"),
        (encoded("TIFF"), "DSC.nef"),
        (encoded("TIFF", tiffinfo={50706: b"\1\4\0\0"}), "renamed.tif"),
    ],
    "JPEG 2000: convert": [(b"\0\0\0\x0cjP  \r\n\x87\n", "a.jp2")],
    "JPEG XL: convert": [(b"\xff\x0a\xfa", "a.jxl")],
    "a Git LFS pointer": [(b"version https://git-lfs.github.com/spec/v1\noid", "a.jpg")],
    "not an image of a known format": [(b"text", "a.jpg"), (b"text", "a.txt")],
}


@pytest.mark.parametrize("words", FILES)
def test_a_file_is_called_what_it_is(words: str) -> None:
    for content, name in FILES[words]:
        assert reason(content, name).startswith(words), name


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "GIF", "TIFF", "WEBP", "PPM"])
def test_the_bytes_count_and_not_the_name(kind: str) -> None:
    """As of a JPEG that a messenger calls HEIC."""
    assert kind_of(encoded(kind), "IMG_1.HEIC") is None
    pixels, _ = decode_rgb(encoded(kind), max_pixels=1000, min_side=1, name="IMG_1.HEIC")
    assert pixels.shape == (20, 20, 3)


@pytest.mark.skipif("AVIF" not in images.readable_formats(), reason="Pillow lacks AVIF")
def test_avif_is_read_where_pillow_can(monkeypatch: pytest.MonkeyPatch) -> None:
    content = encoded("AVIF", quality=95)
    pixels, _ = decode_rgb(content, max_pixels=1000, min_side=1)
    expected = decode_rgb(encoded("PNG"), max_pixels=1000, min_side=1)[0]
    assert np.abs(pixels.astype(int) - expected).mean() < 5
    monkeypatch.setattr(images, "readable_formats", lambda: ("JPEG",))
    assert reason(content, "a.jpg").startswith("AVIF, which this Pillow cannot read: install")


def test_heic_is_read_where_pillow_heif_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A module of that name whose reader takes a TIFF after the mark."""
    mark = b"\0\0\0\x18ftypheic"

    def opened(file: BytesIO, name: str) -> Image.Image:
        return TiffImagePlugin.TiffImageFile(BytesIO(file.read()[len(mark) :]))

    def register_heif_opener() -> None:
        monkeypatch.setitem(Image.OPEN, "HEIF", (opened, lambda head: head.startswith(mark)))

    module = SimpleNamespace(register_heif_opener=register_heif_opener)
    monkeypatch.setitem(sys.modules, "pillow_heif", module)
    images.readable_formats.cache_clear()
    try:
        content = mark + encoded("TIFF")
        pixels, _ = decode_rgb(content, max_pixels=1000, min_side=1, name="a.heic")
        assert pixels.shape == (20, 20, 3)
    finally:
        images.readable_formats.cache_clear()


def test_the_endings_are_those_that_pillow_reads_as_these_formats() -> None:
    formats = {*images.readable_formats(), "AVIF", "MPO"} - {"HEIF"}
    known = {end for end, kind in Image.registered_extensions().items() if kind in formats}
    assert known <= IMAGE_SUFFIXES
    assert IMAGE_SUFFIXES - known <= {".avif", ".avifs"}  # of a Pillow without AVIF
