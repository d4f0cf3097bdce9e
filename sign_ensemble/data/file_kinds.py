"""What a file is, by its first bytes, and where these do not tell by its name's ending.

A picture's ending may be another format's: HEIC is often called ``.jpg``, and JPEG ``.heic``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePath

HEAD = 1024  # bytes of a file that are looked at

# Endings of the formats that are read, as Pillow knows them.
IMAGE_SUFFIXES = frozenset(
    {
        ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".bmp", ".gif", ".tif", ".tiff",
        ".webp", ".ppm", ".pgm", ".pbm", ".pnm", ".pfm", ".avif", ".avifs",
    }
)  # fmt: skip
_READ = re.compile(
    rb"\xff\xd8\xff|\x89PNG\r\n\x1a\n|BM....\0\0\0\0|GIF8[79]a|II\*\0|MM\0\*|RIFF....WEBP"
    rb"|P[1-6]\s+[#\d]|P[Ff]\s",
    re.DOTALL,
)
_TIFF = re.compile(rb"II\*\0|MM\0\*")
_CANON_RAW = re.compile(rb"II\*\0....CR", re.DOTALL)


@dataclass(frozen=True)
class FileKind:
    """A kind of files that is not read."""

    words: str  # its name, and what to do about it
    start: re.Pattern[bytes]  # its first bytes
    endings: str  # of its names
    is_picture: bool = False  # whether people take it for one


def _kind(words: str, start: bytes, endings: str, is_picture: bool = False) -> FileKind:
    return FileKind(words, re.compile(start, re.DOTALL), endings, is_picture)


AVIF = _kind(
    "AVIF, which this Pillow cannot read: install Pillow 11.3 or later, or convert it to JPEG",
    rb".{4}ftyp(avi[fs]|m[is]f1.{4}(.{4}){0,9}?avi[fs])", ".avif .avifs", True,
)  # fmt: skip
RAW = _kind(
    "a camera's raw file: export it as JPEG",
    rb".{4}ftypcrx|FUJIFILMCCD-RAW|IIRO|IIU\0",
    ".3fr .arw .cr2 .cr3 .crw .dng .erf .iiq .kdc .mef .mos .mrw .nef .nrw .orf .pef .raf .raw "
    ".rw2 .rwl .sr2 .srf .srw .x3f", True,
)  # fmt: skip
KINDS = (
    AVIF,
    _kind(
        "HEIC: install pillow-heif or convert it to JPEG",
        rb".{4}ftyp(he[iv][cxms]|m[is]f1)", ".heic .heif .heics .hif", True,
    ),
    RAW,
    _kind("JPEG 2000: convert it to JPEG", rb"\0\0\0\x0cjP  |\xff\x4f\xff\x51",
          ".jp2 .j2k .jpc .jpf .jpx .j2c", True),
    _kind("JPEG XL: convert it to JPEG", rb"\xff\x0a|\0\0\0\x0cJXL ", ".jxl", True),
    _kind("a drawing program's file: export it as PNG", rb"8BPS|gimp xcf", ".psd .xcf", True),
    _kind(
        "a video: take pictures from it, as with `ffmpeg -i FILE -vf fps=5 frame-%04d.jpg`",
        rb".{4}(ftyp|moov|mdat)|RIFF.{4}AVI |\x1aE\xdf\xa3|FLV|OggS|0&\xb2u|\0\0\x01[\xba\xb3]"
        rb"|G.{187}G",
        ".mp4 .m4v .mov .avi .mkv .webm .wmv .flv .mpg .mpeg .mts .m2ts .3gp .ogv",
    ),
    _kind("PDF: save its pages as pictures, as with `pdftoppm -jpeg FILE page`", rb"%PDF", ".pdf"),
    _kind("PostScript: convert it to PNG", rb"%!PS|\xc5\xd0\xd3\xc6", ".ps .eps"),
    _kind(
        "a web page: download the picture itself",
        rb"\s*<(?i:!doctype html|html)", ".htm .html .mhtml .webloc .url",
    ),
    _kind("SVG, a drawing: convert it to PNG", rb"(\xef\xbb\xbf)?\s*<(svg|.{0,900}<svg)\b",
          ".svg .svgz"),
    _kind(
        "an archive: unpack it and name its folder",
        rb"PK\x03\x04|PK\x05\x06|Rar!|7z\xbc\xaf|\x1f\x8b|BZh|\xfd7zXZ|.{257}ustar",
        ".zip .rar .7z .gz .tgz .bz2 .xz .tar",
    ),
    _kind(
        "arrays and no image file: save each as PNG",
        rb"\x93NUMPY|\x89HDF|MATLAB 5", ".npy .h5 .hdf5 .mat",
    ),
    _kind("a Git LFS pointer: run `git lfs pull`", rb"version https://git-lfs", ""),
)  # fmt: skip


def kind_of(content: bytes, name: str = "") -> FileKind | None:
    """The kind of a file by its first :data:`HEAD` bytes or more, else by its name's ending; None
    if it is read, or unknown.

    Most cameras' raw files are TIFF files by their first bytes, with a small picture in them.
    """
    head, ending = content[:HEAD], PurePath(name).suffix.lower()
    if _CANON_RAW.match(head) or (_TIFF.match(head) and ending in RAW.endings.split()):
        return RAW
    if is_read(head):
        return None
    by_content = (kind for kind in KINDS if kind.start.match(head))
    by_ending = (kind for kind in KINDS if ending and ending in kind.endings.split())
    return next(by_content, next(by_ending, None))


def is_read(content: bytes) -> bool:
    """Whether a file begins as one of the formats that every Pillow reads."""
    return bool(_READ.match(content))
