"""Far sets: reproducible, with the statistics they promise, and without a hand."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sign_ensemble.core.config import DataConfig
from sign_ensemble.core.errors import UserError
from sign_ensemble.data import far_ood, hand_removal
from sign_ensemble.data.far_ood import FAR_SETS, far_images, folder_images

SIDE = 70  # no multiple of the 28 blocks of hand_removal.py


def drawn_hand(ground: np.ndarray, seed: int = 0) -> np.ndarray:
    """A palm with fingers and a wrist that leaves at the bottom, skin-coloured, on this ground."""
    rng = np.random.default_rng(seed)
    side = len(ground)
    y, x = (np.indices((side, side)) + 0.5) / side
    hand = np.hypot(x - 0.5, y - 0.6) < 0.18
    hand |= (np.abs(x - 0.5) < 0.1) & (y > 0.6)
    for k in range(4):
        hand |= (np.abs(x - 0.38 - 0.08 * k) < 0.03) & (y > 0.15 + 0.03 * k) & (y < 0.6)
    skin = np.array([200.0, 140.0, 110.0]) * (0.8 + 0.3 * x[:, :, None])
    pixels = np.where(hand[:, :, None], skin + rng.normal(0, 3, (side, side, 3)), ground)
    return np.clip(np.rint(pixels), 0, 255).astype(np.uint8)


def grounds(side: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    y, x = (np.indices((side, side)) + 0.5) / side - 0.5
    black = np.abs(rng.normal(0, 1, (side, side, 3)))
    uneven = 235 - 90 * (x**2 + y**2)[:, :, None] + rng.normal(0, 2, (side, side, 3))
    return {"black": black, "uneven white": uneven}


def signs(side: int = SIDE) -> np.ndarray:
    return np.stack(
        [drawn_hand(ground, seed) for ground in grounds(side).values() for seed in range(2)]
    )


@pytest.mark.parametrize("name", FAR_SETS)
def test_sets_are_reproducible_and_fewer_are_the_start_of_more(name: str) -> None:
    many = far_images(name, 7, SIDE, 5, signs())
    assert many.shape == (7, SIDE, SIDE, 3)
    assert many.dtype == np.uint8
    assert np.array_equal(many[:3], far_images(name, 3, SIDE, 5, signs()))
    assert not np.array_equal(many, far_images(name, 7, SIDE, 6, signs()))
    assert (many[0] != many[1]).any()


def test_blank_is_flat_but_for_sensor_noise() -> None:
    images = far_images("blank", 50, 64, 0, signs())
    sds = images.std((1, 2))
    assert sds.max() < 8.5
    assert (sds.max(1) > 2).mean() > 0.5
    halves = images.astype(float)
    drift = np.abs(halves[:, :32].mean((1, 2)) - halves[:, 32:].mean((1, 2)))
    assert drift.max() < 5 * 8 * np.sqrt(2 / (32 * 64))
    white, grey, black = (images[k::5].mean((1, 2)) for k in range(3))
    assert white.min() > 225
    assert black.max() < 30
    assert grey.min() > 55
    assert grey.max() < 205
    assert np.ptp(grey, axis=1).max() < 2


def test_noise_is_white_at_each_of_its_scales() -> None:
    images = far_images("noise", 120, 224, 0, signs()).astype(float)
    for k, cell in enumerate(far_ood.NOISE_CELLS):
        of_scale = images[k::6]
        # A quarter of a cell away levels are alike; beyond four cells, where the smooth blobs'
        # cubic kernels no longer overlap, they know nothing of each other.
        values = of_scale[..., 0] - of_scale[..., 0].mean((1, 2), keepdims=True)
        variances = values.var((1, 2))
        beyond = (values[:, :, : -4 * cell] * values[:, :, 4 * cell :]).mean((1, 2)) / variances
        independent = 20 * (224 / cell) * (224 / cell - 4)
        assert abs(beyond.mean()) < 4 / np.sqrt(independent) + (cell / 224) ** 2
        if cell >= 4:
            near = cell // 4
            alike = (values[:, :, :-near] * values[:, :, near:]).mean((1, 2)) / variances
            assert alike.min() > 0.6
        colour = np.abs(of_scale[..., 0] - of_scale[..., 1]).max((1, 2)) > 0
        assert 0 < colour.sum() < len(of_scale)
        assert of_scale.std((1, 2)).min() > 10


def test_smooth_fields_change_slowly_but_do_change() -> None:
    images = far_images("smooth-fields", 40, 224, 0, signs()).astype(float)
    steps = max(np.abs(np.diff(images, axis=1)).max(), np.abs(np.diff(images, axis=2)).max())
    assert steps < 16  # five cells of 45 pixels with at most 255 levels between
    assert np.ptp(images, axis=(1, 2)).max(1).min() > 20


def test_pictures_come_from_the_wheel_with_enough_in_them() -> None:
    for names in (far_ood.PHOTOGRAPHS, far_ood.TEXTURES):
        for name in names:
            pixels = far_ood.picture(name)
            assert min(pixels.shape[:2]) >= far_ood.MIN_CROP
            assert pixels.shape[2] == 3
    assert len(far_ood.PHOTOGRAPHS) == 10
    images = far_images("photographs", 40, 64, 0, signs())
    assert images.std((1, 2)).max(1).min() > far_ood.LEAST_SD / 3  # 64 pixels smooth fine detail
    assert len({image.tobytes() for image in images}) == 40


def test_textures_are_grey() -> None:
    images = far_images("textures", 6, 64, 0, signs())
    assert np.array_equal(images[..., 0], images[..., 2])


@pytest.mark.parametrize("side", [SIDE, 224])
@pytest.mark.parametrize("ground", ["black", "uneven white"])
def test_the_hand_goes_and_the_background_stays(ground: str, side: int) -> None:
    truth = grounds(side)[ground]
    image = drawn_hand(truth)
    assert np.abs(image - truth).max() > 90
    left = hand_removal.without_hand(image, np.random.default_rng(0))
    hand = np.abs(image - truth).max(-1) > 20
    blurred = np.abs(left.astype(float) - truth)
    assert blurred.max() < 22, "noise of sd 2 on both sides and a surface a few levels off"
    assert blurred[hand].mean() < 8
    corner = (slice(None, side // 8),) * 2
    assert np.array_equal(left[corner], image[corner])


def test_a_wrist_nearly_as_light_as_the_background_goes_by_its_tint() -> None:
    truth = np.full((112, 112, 3), 180.0) + np.random.default_rng(0).normal(0, 2, (112, 112, 3))
    pale = truth.copy()
    pale[30:, 35:80] += (25, 0, -30)  # within SPREAD of the background's border
    left = hand_removal.without_hand(np.rint(pale).astype(np.uint8), np.random.default_rng(0))
    assert np.abs(left.astype(float).mean((0, 1)) - 180).max() < 1


def test_filled_in_noise_is_like_the_backgrounds() -> None:
    truth = np.full((224, 224, 3), 200.0) + np.random.default_rng(0).normal(0, 4, (224, 224, 3))
    left = hand_removal.without_hand(drawn_hand(truth), np.random.default_rng(0)).astype(float)
    filled = left[120:150, 95:130]
    assert filled.std((0, 1)) == pytest.approx(4, rel=0.15)
    assert filled.mean((0, 1)) == pytest.approx(200, abs=1.5)


def test_an_unknown_background_becomes_a_surface_through_the_border() -> None:
    cells = np.random.default_rng(0).integers(0, 256, (28, 28, 3), dtype=np.uint8)
    clutter = cells.repeat(3, 0).repeat(3, 1)
    left = hand_removal.without_hand(clutter, np.random.default_rng(0)).astype(float)
    middle = left[21:63, 21:63]
    assert middle.std((0, 1)).max() < 30 < clutter[21:63, 21:63].std((0, 1)).min()


def test_a_border_without_one_plain_block_is_no_background() -> None:
    specks = np.zeros((84, 84, 3), np.uint8)
    specks[np.random.default_rng(0).random((84, 84)) < 0.3] = 255
    assert hand_removal.without_hand(specks, np.random.default_rng(0)).shape == specks.shape


def test_no_hand_uses_every_sign_before_any_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(far_ood, "without_hand", lambda image, rng: image)
    x = signs()
    images = far_images("no-hand", 4, SIDE, 0, x)
    assert {image.tobytes() for image in images} == {image.tobytes() for image in x}


RULES = DataConfig(size=32, crop="none", max_pixels=10_000)


def write(path: Path, side: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (side, side), (10, 20, 30)).save(path)
    return path


def test_a_folder_gives_its_images_in_order_and_what_was_set_aside(tmp_path: Path) -> None:
    good = [write(tmp_path / name, 20) for name in ("a/b/1.png", "a/2.PNG", "z.jpg")]
    small, broken = write(tmp_path / "m/small.png", 8), tmp_path / "n.png"
    broken.write_bytes(b"no image")
    (tmp_path / "note.txt").write_text("not looked at")
    images, paths, set_aside = folder_images(tmp_path, RULES)
    assert images.shape == (3, 32, 32, 3)
    assert images.dtype == np.uint8
    assert paths == sorted(good)
    assert len(set_aside) == 3
    assert set_aside[0].startswith(f"{small}: ") and "16" in set_aside[0]
    assert set_aside[1] == f"{broken}: not an image of a known format"
    assert set_aside[2] == f"1 left out, no picture: {tmp_path}/note.txt"


def test_a_pattern_gives_the_folders_it_matches_each_file_once(tmp_path: Path) -> None:
    for name in ("1", "3", "4"):
        write(tmp_path / name / "sub" / "x.png", 20)
    _, paths, _ = folder_images(str(tmp_path / "[13]"), RULES)
    assert [path.parts[-3] for path in paths] == ["1", "3"]
    _, paths, _ = folder_images(str(tmp_path / "**"), RULES)
    assert len(paths) == 3


def test_nothing_to_read_names_the_place(tmp_path: Path) -> None:
    for place in (tmp_path, tmp_path / "missing", tmp_path / "miss*"):
        with pytest.raises(UserError, match=str(place).replace("*", r"\*")):
            folder_images(place, RULES)
    write(tmp_path / "small.png", 8)
    with pytest.raises(UserError, match=r"none of its 1 image files can be used; .*small\.png"):
        folder_images(tmp_path, RULES)
