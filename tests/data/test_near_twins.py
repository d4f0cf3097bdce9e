"""Frames of one recording are near twins; separate pictures are none."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from sign_ensemble.core.config import DataConfig
from sign_ensemble.data.manifest import build, read, twins_in_words, write
from sign_ensemble.data.near_twins import near_twins, thumbnail_of

LABELS = ("bar", "cross", "disc", "triangle")


def next_frame(picture: Path, rng: np.random.Generator, n: int) -> Image.Image:
    """The picture moved and turned a little, a little brighter or darker, with a camera's noise and
    compressed: frame n of a video.
    """
    image_HW3 = np.asarray(Image.open(picture).convert("RGB"))
    side = len(image_HW3)
    turn = cv2.getRotationMatrix2D((side / 2, side / 2), rng.uniform(-0.5, 0.5), 1)
    turn = turn + np.pad(rng.uniform(-0.005, 0.005, (2, 1)) * side, ((0, 0), (2, 0)))
    moved = cv2.warpAffine(image_HW3, turn, (side, side), borderMode=cv2.BORDER_REPLICATE)
    seen = moved * (1 - 0.002 * n) + rng.normal(0, 2, moved.shape)
    file = BytesIO()
    Image.fromarray(seen.clip(0, 255).astype(np.uint8)).save(file, "JPEG", quality=75)
    return Image.open(file)


def recorded(root: Path, signs: Path, name: str) -> DataConfig:
    """A video of 20 frames per label, each file named after its number."""
    rng = np.random.default_rng(0)
    for label in LABELS:
        (root / label).mkdir(parents=True)
        for n in range(20):
            frame = next_frame(signs / "ada" / label / "0.png", rng, n)
            frame.save(root / label / name.format(n=n), quality=90)
    return DataConfig(root=str(root), preset="label", signers="none")


def test_frames_of_a_video_are_named(signs_folder: Path, tmp_path: Path) -> None:
    manifest = build(recorded(tmp_path / "images", signs_folder, "{n}.jpg"))
    assert manifest.near_twins is not None
    assert manifest.near_twins >= 18
    sentence = f"{manifest.near_twins} of 20 test images ({manifest.near_twins / 20:.0%}) have a "
    assert twins_in_words(manifest) == [
        sentence + "near twin in training, nearly the same picture: on these the figures show "
        "memory, not skill"
    ]
    write(manifest, tmp_path / "manifest.parquet")
    assert read(tmp_path / "manifest.parquet") == manifest


def test_separate_pictures_are_no_twins(signs_folder: Path) -> None:
    """By one person, and of other people, of whom nothing is said."""
    one = DataConfig(root=str(signs_folder / "ada"), preset="label", signers="none")
    manifest = build(one)
    assert twins_in_words(manifest) == ["0 of 10 test images (0%) have a near twin in training"]
    several = build(DataConfig(root=str(signs_folder)))
    assert (several.near_twins, twins_in_words(several)) == (0, [])


def test_two_videos_are_split_between_them(signs_folder: Path, tmp_path: Path) -> None:
    """In the order of their numbers, so that the second video is held out."""
    config = recorded(tmp_path, signs_folder, "{n}.jpg")
    rng = np.random.default_rng(1)
    for label in LABELS:
        for n in range(10):
            frame = next_frame(signs_folder / "ada" / label / "3.png", rng, n)
            frame.save(tmp_path / label / f"{100 + n}.jpg", quality=90)
    manifest = build(DataConfig(root=config.root, preset="label", signers="none", test_share=0.34))
    assert manifest.counts()["test"] == 40
    assert manifest.near_twins == 0


def cells(*values: int) -> NDArray[np.uint8]:
    return np.array(values, np.uint8)


@pytest.mark.parametrize(
    ("labels", "splits", "expected"),
    [
        (["a", "a", "a"], ["train", "test", "test"], 1),
        (["b", "a", "a"], ["train", "test", "test"], 0),
        (["a", "a", "a"], ["unused", "test", "test"], 0),
        (["a", "a", "a"], ["train", "near", "set-aside"], 0),
    ],
)
def test_a_twin_has_the_same_label(labels: list[str], splits: list[str], expected: int) -> None:
    thumbnails_ND = np.stack([cells(0, 9, 90, 200), cells(10, 19, 99, 210), cells(90, 9, 0, 200)])
    assert near_twins(thumbnails_ND, labels, splits) == expected


def test_pictures_of_one_colour_are_no_twins() -> None:
    flat_ND = np.stack([thumbnail_of(np.full((30, 40, 3), 200, np.uint8))] * 2)
    assert near_twins(flat_ND, ["a", "a"], ["train", "test"]) == 0
