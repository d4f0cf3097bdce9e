"""The built-in set: the same bytes in any order, broken folders completed, bad arguments."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest
from PIL import Image

from sign_ensemble import synthesize
from sign_ensemble.core.config import DataConfig
from sign_ensemble.core.errors import UserError
from sign_ensemble.data import manifest
from sign_ensemble.synthetic.ood_pictures import OOD_SETS
from sign_ensemble.synthetic.picture_set import LABELS, Picture, Recipe, plan, rendered, scene_of
from sign_ensemble.synthetic.render import render_batch

SMALL = Recipe(seed=1, width=48, height=40)
CALL = ["--signers", "3", "--images-per-label", "1", "--ood-per-set", "2", "--size", "48x40"]


def test_same_bytes_in_any_order() -> None:
    some = plan(3, 2, 5)[::23]
    one = dict(zip(some, rendered(some, SMALL), strict=True))
    other = dict(zip(some[::-1], rendered(some[::-1], SMALL), strict=True))
    assert one == other
    assert len(set(one.values())) == len(some)


def test_more_images_or_signers_leave_the_others_as_they_are() -> None:
    assert set(plan(2, 3, 4)) <= set(plan(3, 5, 4)) | {p for p in plan(2, 3, 4) if p.kind != "sign"}


def test_seed_and_spread_change_the_pictures() -> None:
    one = [Picture("sign", "a", 2, 1)]
    made = {
        next(rendered(one, recipe))
        for recipe in (SMALL, Recipe(2, 1.0, 48, 40), Recipe(1, 0.5, 48, 40))
    }
    assert len(made) == 3


@pytest.mark.parametrize("name", OOD_SETS)
def test_ood_pictures_have_the_recipes_size(name: str) -> None:
    pictures = [Picture("ood", name, 1, n) for n in range(1, 6)]
    for content in rendered(pictures, SMALL):
        assert Image.open(io.BytesIO(content)).size == (48, 40)


def test_hand_is_darker_than_its_wall_and_the_empty_wall_is_white() -> None:
    sign, empty = Picture("sign", "b", 1, 1), Picture("ood", "no-hand", 1, 1)
    with_hand, without = (
        np.asarray(Image.open(io.BytesIO(content)).convert("L"), float)
        for content in rendered([sign, empty], SMALL)
    )
    assert without.min() > 180
    assert 0.08 < (with_hand < 180).mean() < 0.7


def test_hand_only_is_a_cropped_hand_on_black() -> None:
    recipe = Recipe(seed=1, width=96, height=80, hand_only=True)
    for label, upright in (("b", True), ("h", False)):  # fingers up; fingers to the side
        (content,) = rendered([Picture("sign", label, 1, 1)], recipe)
        rgb = np.asarray(Image.open(io.BytesIO(content)), float)
        height, width = rgb.shape[:2]
        assert (height > width) == upright
        assert max(height, width) < 96
        bright = rgb.max(-1) > 60
        assert bright.mean() > 0.25
        rows, columns = bright.any(1).nonzero()[0], bright.any(0).nonzero()[0]
        assert rows[0] < 0.15 * height  # the margin and no more
        assert columns[-1] - columns[0] > 0.75 * width
        assert np.median(rgb[~bright]) < 12
    (content,) = rendered([Picture("ood", "no-hand", 1, 1)], recipe)
    empty = np.asarray(Image.open(io.BytesIO(content)))
    assert empty.shape == (80, 96, 3)
    assert empty.max() < 40


def test_a_folder_of_hands_only_is_completed_and_refuses_another_recipe(tmp_path: Path) -> None:
    few = ["--out", str(tmp_path / "cut"), "--workers", "1", "--signers", "1", "--size", "64x56"]
    few += ["--images-per-label", "1", "--ood-per-set", "0"]
    synthesize.main([*few, "--hand-only"])
    before = files_of(tmp_path / "cut")
    next((tmp_path / "cut").rglob("*.jpg")).write_bytes(b"")
    synthesize.main([*few, "--hand-only"])
    assert files_of(tmp_path / "cut") == before
    with pytest.raises(UserError, match="another hand_only"):
        synthesize.main(few)


def test_a_batch_gives_what_single_pictures_give() -> None:
    scenes = [scene_of(Picture("sign", label, 1, 1), SMALL) for label in ("a", "v")]
    scenes[1] = replace(scenes[1], distance=scenes[0].distance, frame=scenes[0].frame)
    pictures = render_batch(scenes, 48, 40)
    for scene, picture in zip(scenes, pictures, strict=True):
        alone = render_batch([scene], 48, 40)[0]
        assert np.abs(alone.astype(int) - picture.astype(int)).mean() < 0.5


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("hands") / "set"
    synthesize.main(["--out", str(out), "--workers", "1", *CALL])
    return out


def files_of(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*.jpg")}


def test_folder_is_read_with_the_default_layout(folder: Path) -> None:
    listed = manifest.build(DataConfig(root=str(folder / "signs")))
    assert listed.labels == sorted(LABELS)
    assert listed.signers("train", "test") == ["signer-1", "signer-2", "signer-3"]
    assert listed.counts()["set-aside"] == 0


def test_manifest_names_every_picture(folder: Path) -> None:
    table = pyarrow.parquet.read_table(folder / "pictures.parquet")
    assert sorted(table["path"].to_pylist()) == sorted(files_of(folder))


def test_broken_folder_is_completed_to_the_same_bytes(folder: Path) -> None:
    before = files_of(folder)
    paths = sorted(before)
    (folder / paths[0]).unlink()
    (folder / paths[5]).write_bytes(before[paths[5]][:200])
    (folder / paths[9]).write_bytes(b"")
    Image.new("RGB", (20, 20)).save(folder / paths[11])
    kept = (folder / paths[20]).stat().st_mtime_ns
    synthesize.main(["--out", str(folder), "--workers", "1", *CALL])
    assert files_of(folder) == before
    assert (folder / paths[20]).stat().st_mtime_ns == kept


@pytest.mark.usefixtures("ray_two_cpus")
def test_ray_gives_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "ray"
    synthesize.main(["--out", str(out), "--workers", "2", *CALL])
    assert files_of(out) == files_of(folder)


def test_another_recipe_is_refused(folder: Path) -> None:
    with pytest.raises(UserError, match="another seed"):
        synthesize.main(["--out", str(folder), "--seed", "5", *CALL])


def test_foreign_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("text")
    with pytest.raises(UserError, match="did not write"):
        synthesize.main(["--out", str(tmp_path), *CALL])
    (tmp_path / "recipe.json").write_text(json.dumps([1]))
    with pytest.raises(UserError, match="another"):
        synthesize.main(["--out", str(tmp_path), *CALL])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--size", "640"], "WIDTHxHEIGHT"),
        (["--size", "8x8"], "32 to 4096"),
        (["--signers", "0"], "--signers is 0"),
        (["--spread", "-1"], "--spread is -1"),
        (["--images-per-label", "-1"], "--images-per-label is -1"),
        (["--workers", "-2"], "--workers is -2"),
    ],
)
def test_bad_arguments_are_refused(tmp_path: Path, arguments: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        synthesize.main(["--out", str(tmp_path / "x"), *arguments])
    assert not (tmp_path / "x").exists()
