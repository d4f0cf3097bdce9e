"""One image in, known pixels out; whatever cannot be read says why."""

from __future__ import annotations

import os
import struct
import time
import tracemalloc
import zlib
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin

from sign_ensemble.core.config import DataConfig
from sign_ensemble.data.images import SetAside, decode_rgb, read_image
from sign_ensemble.data.square_pictures import Fit, fit_square

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def decoded(content: bytes, max_pixels: int = 64_000_000, min_side: int = 1) -> NDArray[np.uint8]:
    return decode_rgb(content, max_pixels=max_pixels, min_side=min_side)[0]


def quadrants(height: int = 40, width: int = 60) -> NDArray[np.uint8]:
    """Red, green / blue, white: no turn or flip leaves it as it is."""
    rgb = np.empty((height, width, 3), np.uint8)
    rgb[: height // 2, : width // 2], rgb[: height // 2, width // 2 :] = RED, GREEN
    rgb[height // 2 :, : width // 2], rgb[height // 2 :, width // 2 :] = BLUE, WHITE
    return rgb


def png_claiming(width: int, height: int) -> bytes:
    """A PNG of a hundred bytes whose header claims width × height."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress(b"\0" * 1000)
    signature = b"\x89PNG\r\n\x1a\n"
    return signature + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM", "WEBP"])
def test_lossless_formats_return_the_pixels(kind: str) -> None:
    options = {"lossless": True} if kind == "WEBP" else {}
    rgb = decoded(encoded(Image.fromarray(quadrants()), kind, **options))
    np.testing.assert_array_equal(rgb, quadrants())
    assert rgb.flags.writeable  # torch warns of arrays that are not


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotated_image_equals_the_upright_one(kind: str, orientation: int) -> None:
    stored = {
        1: lambda rgb: rgb,
        2: lambda rgb: rgb[:, ::-1],
        3: lambda rgb: rgb[::-1, ::-1],
        4: lambda rgb: rgb[::-1],
        5: lambda rgb: rgb.transpose(1, 0, 2),
        6: lambda rgb: np.rot90(rgb, 1),  # "turn 90° clockwise to show"
        7: lambda rgb: rgb[::-1, ::-1].transpose(1, 0, 2),
        8: lambda rgb: np.rot90(rgb, -1),
    }[orientation](quadrants())
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = encoded(Image.fromarray(np.ascontiguousarray(stored)), kind, exif=exif)
    rgb = decoded(content)
    assert rgb.shape == (40, 60, 3)
    for row, column in ((5, 5), (5, 55), (35, 5), (35, 55)):
        difference = rgb[row, column].astype(int) - quadrants()[row, column]
        assert np.abs(difference).max() <= 8, (row, column)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_broken_exif_is_no_reason_to_fail(kind: str) -> None:
    image = Image.fromarray(quadrants())
    content = (
        encoded(image, kind) if kind == "TIFF" else encoded(image, kind, exif=b"Exif\0\0MM\0*junk")
    )
    assert decoded(content).shape == (40, 60, 3)


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_cmyk_colours(kind: str) -> None:
    """Cyan ink alone is cyan; PIL writes JPEGs as Adobe does (inverted) and TIFFs plainly."""
    ink = np.zeros((32, 64, 4), np.uint8)
    ink[:, :32, 0] = 255  # cyan
    ink[:, 32:, 3] = 255  # black
    content = encoded(Image.fromarray(ink, "CMYK"), kind)
    assert (b"Adobe" in content) == (kind == "JPEG")
    rgb = decoded(content)
    np.testing.assert_allclose(rgb[16, 8], (0, 255, 255), atol=3)
    np.testing.assert_allclose(rgb[16, 56], (0, 0, 0), atol=3)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_16_bit_grey_is_scaled_not_clipped(kind: str) -> None:
    grey = np.full((20, 20), 128 * 257, np.uint16)
    grey[0], grey[1], grey[2] = 0, 65535, 300
    rgb = decoded(encoded(Image.fromarray(grey), kind))
    assert [rgb[row, 3].tolist() for row in (0, 1, 2, 9)] == [[v] * 3 for v in (0, 255, 1, 128)]


def test_big_endian_16_bit_tiff() -> None:
    grey = np.full((20, 20), 128 * 257, np.uint16)
    image = Image.frombytes("I;16B", (20, 20), grey.astype(">u2").tobytes())
    assert decoded(encoded(image, "TIFF"))[3, 3].tolist() == [128] * 3


def test_32_bit_grey_is_scaled_while_it_fits_16_bits() -> None:
    assert decoded(encoded(Image.new("I", (20, 20), 257 * 7), "TIFF"))[0, 0].tolist() == [7] * 3
    with pytest.raises(SetAside, match="32-bit grey outside 0 to 65535"):
        decoded(encoded(Image.new("I", (20, 20), 70_000), "TIFF"))


def test_floating_point_is_set_aside() -> None:
    with pytest.raises(SetAside, match="floating-point"):
        decoded(encoded(Image.new("F", (20, 20), 0.5), "TIFF"))


def test_transparent_parts_are_white() -> None:
    half_clear = Image.new("RGBA", (20, 20), (255, 0, 0, 0))
    half_clear.paste((255, 0, 0, 255), (10, 0, 20, 20))
    for image in (half_clear, half_clear.convert("LA")):
        rgb = decoded(encoded(image))
        assert rgb[5, 5].tolist() == [255] * 3
        assert rgb[5, 15, 1] == (0 if image.mode == "RGBA" else 76)  # luma of pure red
    blended = decoded(encoded(Image.new("RGBA", (20, 20), (255, 0, 0, 51))))  # one fifth red
    assert blended[0, 0].tolist() == [255, 204, 204]


def test_palettes_with_and_without_a_clear_colour() -> None:
    image = Image.fromarray(quadrants()).quantize(4)
    np.testing.assert_array_equal(decoded(encoded(image)), quadrants())
    red = image.getpixel((5, 5))
    for kind in ("PNG", "GIF"):
        rgb = decoded(encoded(image, kind, transparency=red))
        assert rgb[5, 5].tolist() == [255] * 3
        assert rgb[35, 5].tolist() == list(BLUE)
    partly = bytes(51 if entry == red else 255 for entry in range(4))
    assert decoded(encoded(image, transparency=partly))[5, 5].tolist() == [255, 204, 204]


def test_a_clear_grey_of_8_and_16_bits() -> None:
    assert decoded(encoded(Image.new("L", (20, 20), 7), transparency=7)).min() == 255
    grey = Image.fromarray(np.full((20, 20), 700, np.uint16))
    assert decoded(encoded(grey, transparency=700)).min() == 255


def test_one_bit_is_black_and_white() -> None:
    bits = Image.fromarray(np.eye(20, dtype=np.uint8) * 255).convert("1")
    np.testing.assert_array_equal(decoded(encoded(bits))[..., 0], np.eye(20) * 255)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", r"empty file \(0 bytes\)"),
        (b"no image at all", "not an image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 20 20\n", "PostScript"),
        (encoded(Image.fromarray(quadrants(300, 300)), "JPEG")[:2000], "truncated"),
        (encoded(Image.effect_noise((99, 99), 50))[:4000], "cannot be decoded"),
        (encoded(Image.effect_noise((99, 99), 50), "BMP")[:4000], "truncated"),
        (encoded(Image.new("RGB", (60, 15))), "60 x 15: the shorter side is below 16"),
    ],
    ids=["empty", "text", "eps", "jpeg", "png", "bmp", "tiny"],
)
def test_what_cannot_be_used_says_why(content: bytes, reason: str) -> None:
    with pytest.raises(SetAside, match=reason) as caught:
        decoded(content, min_side=16)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_several_frames_are_set_aside(kind: str) -> None:
    frames = [Image.new("RGB", (20, 20), colour) for colour in (RED, BLUE)]
    content = encoded(frames[0], kind, save_all=True, append_images=frames[1:])
    with pytest.raises(SetAside, match="animated, or several pages"):
        decoded(content)


def test_a_phone_photo_with_a_second_view_is_one_image() -> None:
    frames = [Image.new("RGB", (32, 32), colour) for colour in (RED, BLUE)]
    content = encoded(frames[0], "MPO", save_all=True, append_images=frames[1:])
    np.testing.assert_allclose(decoded(content)[9, 9], RED, atol=3)


@pytest.mark.parametrize("side", [8001, 10_000, 30_000])  # below, at and above PIL's own limits
def test_a_decompression_bomb_costs_neither_time_nor_memory(side: int) -> None:
    content = png_claiming(side, side)
    with pytest.raises(SetAside):  # imports what PIL loads late
        decoded(content)
    started = time.perf_counter()
    tracemalloc.start()
    with pytest.raises(SetAside, match="more than 64000000 pixels"):
        decoded(content)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_000_000
    assert time.perf_counter() - started < 1


def test_a_text_bomb_is_set_aside() -> None:
    info = PngImagePlugin.PngInfo()
    info.add_text("comment", "0" * 5_000_000, zip=True)
    with pytest.raises(SetAside, match="cannot be decoded"):
        decoded(encoded(Image.new("RGB", (20, 20)), pnginfo=info))


def test_pad_keeps_proportions_and_fills_with_the_border_colour() -> None:
    rgb = np.full((50, 100, 3), 200, np.uint8)
    rgb[20:30, 40:60] = 0
    rgb[0, :30] = 90  # a minority of the border
    square = fit_square(rgb, 40, "pad")
    assert square.shape == (40, 40, 3)
    assert np.unique(square[:10]).tolist() == [200]
    assert np.unique(square[30:]).tolist() == [200]
    dark_rows, dark_columns = np.nonzero(square[..., 0] < 50)
    assert int(np.ptp(dark_rows)) + 1 == 4
    assert int(np.ptp(dark_columns)) + 1 == 8


def test_squash_keeps_the_corners_and_crop_the_middle() -> None:
    rgb = quadrants(40, 120)
    squashed = fit_square(rgb, 20, "squash")
    assert squashed[0, 0].tolist() == list(RED)
    assert squashed[-1, -1].tolist() == list(WHITE)
    rgb[:, :40] = rgb[:, 80:] = 7
    assert 7 not in fit_square(rgb, 40, "crop")
    np.testing.assert_array_equal(fit_square(rgb, 40, "crop"), rgb[:, 40:80])


@pytest.mark.parametrize(
    "shape", [(200, 200), (31, 224), (480, 640), (1500, 2000), (100, 600), (223, 225), (225, 16)]
)
@pytest.mark.parametrize("fit", ["squash", "crop"])
def test_resized_pixels_are_pils_within_a_level(fit: Fit, shape: tuple[int, int]) -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    side, (height, width) = min(shape), shape
    top, left = (height - side) // 2, (width - side) // 2
    part = rgb[top : top + side, left : left + side] if fit == "crop" else rgb
    expected = Image.fromarray(np.ascontiguousarray(part)).resize(
        (224, 224), Image.Resampling.BILINEAR
    )
    difference = fit_square(rgb, 224, fit).astype(int) - np.asarray(expected)
    assert np.abs(difference).max() <= 1
    assert abs(difference.mean()) < 0.2  # OpenCV rounds some halves down


@pytest.mark.parametrize("fit", ["pad", "squash", "crop"])
def test_resizing_does_not_alias(fit: Fit) -> None:
    """A fine black-and-white grid becomes its mean grey, not a pattern of its own."""
    grid = np.tile(np.array([[0, 255], [255, 0]], np.uint8), (401, 401))[:801, :801]
    square = fit_square(np.repeat(grid[..., None], 3, axis=2), 224, fit)
    assert square[2:-2, 2:-2].min() > 110
    assert square[2:-2, 2:-2].max() < 145


@pytest.mark.parametrize("fit", ["pad", "squash", "crop"])
@pytest.mark.parametrize("shape", [(1, 1), (1, 999), (999, 1), (3, 2), (224, 224)])
def test_any_shape_becomes_the_square(fit: Fit, shape: tuple[int, int]) -> None:
    square = fit_square(np.full((*shape, 3), 9, np.uint8), 64, fit)
    assert square.shape == (64, 64, 3)
    assert np.unique(square).tolist() == [9]
    assert square.flags.writeable


def photograph(width: int, height: int) -> Image.Image:
    """Smooth colours with edges, as a camera's picture has."""
    coarse = np.random.default_rng(0).integers(0, 256, (9, 12, 3), np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


@pytest.mark.parametrize(
    ("width", "height", "fit", "part"),
    [
        (640, 480, "pad", 2), (480, 640, "pad", 2), (640, 480, "squash", 1), (640, 480, "crop", 1),
        (4000, 3000, "pad", 8), (4000, 3000, "crop", 8), (1300, 900, "pad", 4),
        (627, 200, "pad", 1), (628, 200, "pad", 2),
    ],
)  # fmt: skip
def test_a_large_jpeg_is_decoded_at_a_part_of_its_size(
    width: int, height: int, fit: Fit, part: int
) -> None:
    content = encoded(photograph(width, height), "JPEG", quality=90)
    full = decoded(content)
    less = decode_rgb(content, max_pixels=10**8, min_side=1, square=(224, fit))[0]
    assert less.shape == (-(-height // part), -(-width // part), 3)
    difference = fit_square(full, 224, fit).astype(int) - fit_square(less, 224, fit)
    assert np.abs(difference).mean() < 1
    assert part > 1 or not difference.any()


def test_other_formats_are_decoded_whole() -> None:
    content = encoded(photograph(640, 480))
    padded, _ = decode_rgb(content, max_pixels=10**6, min_side=1, square=(32, "pad"))
    assert padded.shape[0] == 480


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_size_is_that_of_the_upright_image(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = encoded(photograph(640, 481), "JPEG", exif=exif)
    height, width = decoded(content).shape[:2]
    _, size = decode_rgb(content, max_pixels=10**6, min_side=1, square=(1, "pad"))
    assert size == (width, height)
    assert (width, height) == ((640, 481) if orientation < 5 else (481, 640))


def test_the_size_of_a_broken_jpeg_is_refused() -> None:
    content = encoded(photograph(640, 480), "JPEG")
    with pytest.raises(SetAside, match="cannot be decoded"):
        decode_rgb(content[: len(content) // 2], max_pixels=10**6, min_side=1, square=(1, "pad"))


def test_read_image_reads_a_file_or_says_why_not(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(encoded(Image.fromarray(quadrants(64, 64))))
    square = read_image(path, DataConfig(size=64, crop="none", max_pixels=5000))
    np.testing.assert_array_equal(square, quadrants(64, 64))
    pipe = tmp_path / "pipe.png"
    os.mkfifo(pipe)
    for broken, reason in (
        (tmp_path / "gone.png", "cannot be read: No such file"),
        (tmp_path, "not a regular file"),
        (pipe, "not a regular file"),
        (tmp_path / "nul\0.png", "cannot be read"),
    ):
        with pytest.raises(SetAside, match=reason):
            read_image(broken, DataConfig(size=64, crop="none", max_pixels=5000))


def test_a_forbidden_file_is_set_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"x")

    def forbid(self: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", forbid)  # tests may run as root, whom chmod cannot stop
    with pytest.raises(SetAside, match="cannot be read: Permission denied"):
        read_image(path, DataConfig(size=64, crop="none", max_pixels=5000))
