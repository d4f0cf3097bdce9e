"""Cached features: computed once, each in its row, and never read half written.

Letters: N images, V an image and its augmented copies, D features.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from sign_ensemble.core.config import DataConfig
from sign_ensemble.core.errors import UserError
from sign_ensemble.data import backbone, feature_cache, row_cache
from sign_ensemble.data.augmentation import augment
from sign_ensemble.data.feature_cache import (
    CachedFeatures,
    all_layers,
    cache_key,
    features_of_images,
    features_of_rows,
    plain_features,
)
from sign_ensemble.data.images import SetAside, read_image
from sign_ensemble.data.row_cache import CachedArray, Work

DATA = DataConfig(size=64, augmentations=2, crop="none", weights="random")
ROW_BYTES = 2 * 3 * backbone.OF_IMAGE  # of an image and two augmented copies


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def root(signs_folder: Path, tmp_path: Path) -> Path:
    """Seven images of its own to change."""
    for i, path in enumerate(sorted(signs_folder.rglob("*.png"))[::18]):
        (tmp_path / "images").mkdir(exist_ok=True)
        shutil.copy(path, tmp_path / "images" / f"{i}.png")
    return tmp_path / "images"


def hashes(root: Path) -> list[str]:
    """The contents of the seven images."""
    return [hashlib.sha256((root / f"{i}.png").read_bytes()).hexdigest() for i in range(7)]


def rows(root: Path, names: Sequence[str] | None = None) -> pa.Table:
    """Manifest rows of the images, or of those named."""
    paths = names or sorted(path.name for path in root.iterdir())
    hashes = [hashlib.sha256((root / path).read_bytes()).hexdigest() for path in paths]
    return pa.table({"path": list(paths), "sha256": hashes})


def compute(
    root: Path, cache: Path, names: Sequence[str] | None = None, data: DataConfig = DATA
) -> CachedArray:
    return features_of_rows(rows(root, names), root, data, cache)


def expected(root: Path, name: str, data: DataConfig = DATA) -> np.ndarray:
    """Features (V, D) of one image and its augmented copies, image by image."""
    image = read_image(root / name, data)[None]
    key = [hashlib.sha256((root / name).read_bytes()).hexdigest()]
    each = [
        augment(image, key, augmentation, data.mirror)
        for augmentation in range(data.augmentations + 1)
    ]
    return features_of_images(np.concatenate(each), data.weights).head_ND


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the images whose features were computed so far."""
    done: list[str] = []
    real = feature_cache.compute_here

    def counted(works: Sequence[Work], data: DataConfig) -> Iterator[np.ndarray]:
        for work, values in zip(works, real(works, data), strict=True):
            done.append(Path(work.path).name)
            yield values

    monkeypatch.setattr(feature_cache, "compute_here", counted)
    return done


def folder_of(cache: Path) -> Path:
    """The one folder in the cache."""
    (folder,) = cache.iterdir()
    return folder


def index_of(cache: Path) -> dict[str, int]:
    table = pq.read_table(folder_of(cache) / "index.parquet").to_pydict()
    return dict(zip(table["sha256"], table["row"], strict=True))


# --- what is stored -------------------------------------------------------------------------------


@pytest.mark.parametrize("augmentations", [0, 2])
def test_a_row_holds_the_image_and_then_its_augmented_copies(
    augmentations: int, root: Path, tmp_path: Path
) -> None:
    data = replace(DATA, augmentations=augmentations)
    found = compute(root, tmp_path / "cache", data=data)
    head_NVD = found.open()[found.row_N]
    assert head_NVD.shape == (
        7,
        1 + augmentations,
        backbone.FIFTH_FEATURES + backbone.THIRD_FEATURES,
    )
    assert head_NVD.dtype == np.float16
    for i in range(7):
        assert np.array_equal(head_NVD[i], expected(root, f"{i}.png", data))
    assert np.array_equal(plain_features(found), head_NVD[:, 0])
    some = CachedFeatures(found).rows(np.array([5, 2]))
    assert np.array_equal(some.fifth_ND, head_NVD[[5, 2], 0, : backbone.FIFTH_FEATURES])
    assert np.array_equal(some.third_ND, head_NVD[[5, 2], 0, backbone.FIFTH_FEATURES :])
    all_NVD = all_layers(found).open()[found.row_N]
    assert all_NVD.shape == (7, 1 + augmentations, backbone.OF_IMAGE)
    assert np.array_equal(all_NVD[..., : backbone.HEAD_FEATURES], head_NVD)
    assert np.array_equal(some.fourth_ND, all_NVD[[5, 2], 0, backbone.HEAD_FEATURES :])
    for copy in range(1 + augmentations):
        of_copy = CachedFeatures(found, copy).rows(np.array([5, 2]))
        assert np.array_equal(of_copy.all_ND, all_NVD[[5, 2], copy])
    if augmentations:  # they differ, so that an order was tested
        assert not np.array_equal(head_NVD[0, 1], head_NVD[0, 2])


def test_more_images_than_one_pass_come_out_in_order(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compute(root, tmp_path / "one_pass")
    one_pass = (folder_of(tmp_path / "one_pass") / "features.f16").read_bytes()
    monkeypatch.setattr(backbone, "BATCH", 2)  # passes that separate images from their copies
    compute(root, tmp_path / "parts")
    parts = (folder_of(tmp_path / "parts") / "features.f16").read_bytes()
    assert len(one_pass) == len(parts) == 7 * ROW_BYTES
    one, other = (np.frombuffer(each, np.float16).astype(float) for each in (one_pass, parts))
    # passes of another size may round otherwise
    assert np.abs(one - other).max() < 0.02 * np.abs(one).max()
    each = np.stack([one, other]).reshape(2, 21, backbone.OF_IMAGE)
    assert (np.linalg.norm(each[0, :, None] - each[1][None], axis=-1).argmin(1) == range(21)).all()


@pytest.mark.parametrize("augmentations", [0, 1, 4])
def test_any_number_of_threads_finds_the_same_bits(
    augmentations: int, signs_folder: Path, tmp_path: Path
) -> None:
    """In passes of 64 pictures, which separate images from their copies."""
    root = tmp_path / "images"
    root.mkdir()
    for i, path in enumerate(sorted(signs_folder.rglob("*.png"))[:70]):
        shutil.copy(path, root / f"{i}.png")
    data = replace(DATA, augmentations=augmentations)
    found: list[bytes] = []
    for threads in (1, 3):
        torch.set_num_threads(threads)
        try:
            compute(root, tmp_path / f"{threads}", data=data)
        finally:
            torch.set_num_threads(1)
        found.append((folder_of(tmp_path / f"{threads}") / "features.f16").read_bytes())
    assert found[0] == found[1]
    read = np.frombuffer(found[0], np.float16).reshape(70, 1 + augmentations, backbone.OF_IMAGE)
    names = sorted(path.name for path in root.iterdir())
    for i in (0, 12, 13, 31, 32, 63, 64, 69):
        assert np.array_equal(read[i, :, : backbone.HEAD_FEATURES], expected(root, names[i], data))


def test_pictures_drawn_for_a_gpu_are_those_that_a_processor_convolves(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backbone, "BATCH", 4)  # 21 pictures of 7 images: passes begin amid them
    found = compute(root, tmp_path / "cache")
    works = [Work(str(root / f"{i}.png"), sha, i) for i, sha in enumerate(hashes(root))]
    net = backbone.load("random")
    drawn = [feature_cache.pictures(works, DATA, range(i, min(i + 4, 21))) for i in range(0, 21, 4)]
    assert [(len(each), each.dtype) for each in drawn] == [(4, np.uint8)] * 5 + [(1, np.uint8)]
    each_ND = backbone.concatenate(list(map(net.of_batch, drawn))).all_ND.reshape(
        7, 3, backbone.OF_IMAGE
    )
    assert np.array_equal(each_ND, all_layers(found).open()[found.row_N])


def test_an_image_that_goes_is_named_and_what_was_found_is_kept(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(row_cache, "COMMIT", 2)
    monkeypatch.setattr(backbone, "BATCH", 3)  # a pass for each image
    some = rows(root)
    (root / "4.png").unlink()
    with pytest.raises(SetAside, match="cannot be read"):
        features_of_rows(some, root, DATA, tmp_path / "cache")
    assert list(index_of(tmp_path / "cache").values()) == [0, 1, 2, 3]


def test_rows_are_answered_in_their_own_order(root: Path, tmp_path: Path) -> None:
    names = ["5.png", "0.png", "3.png"]
    first = compute(root, tmp_path / "cache", ["3.png"])
    found = compute(root, tmp_path / "cache", names)
    assert first.row_N.tolist() == [0]
    assert found.row_N.tolist() == [1, 2, 0]
    for name, values in zip(names, plain_features(found), strict=True):
        assert np.array_equal(values, expected(root, name)[0])


def test_equal_files_share_a_row(root: Path, tmp_path: Path, computed: list[str]) -> None:
    shutil.copy(root / "0.png", root / "copy.png")
    found = compute(root, tmp_path / "cache", ["0.png", "1.png", "copy.png"])
    assert found.row_N.tolist() == [0, 1, 0]
    assert len(computed) == 2


def test_images_in_memory_are_the_same_images(root: Path) -> None:
    data = replace(DATA, augmentations=0)
    decoded = np.stack([read_image(root / f"{i}.png", data) for i in range(7)])
    done: list[tuple[int, int]] = []
    found = backbone.load("random").of_images(
        np.concatenate([decoded] * 10), lambda n, of: done.append((n, of))
    )
    assert done == [(64, 70), (70, 70)]
    for i in range(7):
        alone = expected(root, f"{i}.png", data)[0]
        assert np.array_equal(found.head_ND[i], alone)
        assert np.array_equal(found.head_ND[63 + i], alone)
    assert features_of_images(decoded[:0], "random").head_ND.shape == (0, backbone.HEAD_FEATURES)


# --- what is computed, and what is not ------------------------------------------------------------


def test_a_second_call_computes_nothing(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = compute(root, tmp_path / "cache")
    values = plain_features(first)

    def never(works: Sequence[Work], data: DataConfig) -> Iterator[np.ndarray]:
        raise AssertionError(f"computed again: {works}")

    monkeypatch.setattr(feature_cache, "compute_here", never)
    again = compute(root, tmp_path / "cache")
    assert again.row_N.tolist() == first.row_N.tolist()
    assert np.array_equal(plain_features(again), values)
    assert compute(root, tmp_path / "cache", ["4.png", "2.png"]).row_N.tolist() == [4, 2]


def test_a_changed_image_computes_itself_alone(
    root: Path, tmp_path: Path, computed: list[str]
) -> None:
    before = plain_features(compute(root, tmp_path / "cache"))
    computed.clear()
    Image.new("RGB", (80, 90), "teal").save(root / "3.png")
    (root / "5.png").rename(root / "six.png")  # the same content elsewhere is known
    after = compute(root, tmp_path / "cache", [f"{i}.png" for i in range(5)] + ["six.png"])
    assert computed == ["3.png"]
    assert after.row_N.tolist() == [0, 1, 2, 7, 4, 5]
    assert np.array_equal(np.delete(plain_features(after), 3, 0), np.delete(before, [3, 6], 0))
    assert np.array_equal(plain_features(after)[3], expected(root, "3.png")[0])


def test_progress_counts_what_is_missing(root: Path, tmp_path: Path) -> None:
    compute(root, tmp_path / "cache", ["0.png", "1.png"])
    done: list[tuple[int, int]] = []
    features_of_rows(rows(root), root, DATA, tmp_path / "cache", lambda n, of: done.append((n, of)))
    assert done == [(n, 5) for n in range(1, 6)]


@pytest.mark.parametrize(
    "change",
    [
        {"size": 72},
        {"fit": "squash"},
        {"augmentations": 1},
        {"mirror": True},
        {"weights": "shipped"},
    ],
)
def test_other_pictures_have_another_folder(
    change: dict[str, Any], root: Path, tmp_path: Path
) -> None:
    one = compute(root, tmp_path / "cache", ["0.png"])
    other = compute(root, tmp_path / "cache", ["0.png"], replace(DATA, **change))
    assert Path(one.path).parent != Path(other.path).parent
    assert len(list((tmp_path / "cache").iterdir())) == 2


def test_settings_that_change_no_picture_share_the_folder() -> None:
    key = cache_key(DATA, "abc")
    other = replace(DATA, root="/x", engine="ray", max_pixels=5, test_share=0.5, cache="/y")
    assert cache_key(other, "abc") == key
    assert cache_key(DATA, "abd") != key
    plain = replace(DATA, augmentations=0)
    assert cache_key(replace(plain, mirror=True), "abc") == cache_key(plain, "abc")
    assert json.loads(json.dumps(key))["size"] == 64
    assert cache_key(replace(DATA, handedness="as-is"), "abc") == key  # hands are not looked for
    hand = replace(DATA, crop="hand")
    keys = [key, *(cache_key(replace(hand, handedness=h), "abc") for h in ("normalise", "as-is"))]
    assert len({json.dumps(each) for each in keys}) == 3
    assert cache_key(replace(hand, fit="squash"), "abc") == keys[1]  # a picture is padded


# --- interruptions and damage ---------------------------------------------------------------------


def breaks_after(count: int, fault: BaseException) -> Callable[..., Iterator[np.ndarray]]:
    real = feature_cache.compute_here

    def interrupted(works: Sequence[Work], data: DataConfig) -> Iterator[np.ndarray]:
        for done, values in enumerate(real(works, data)):
            if done == count:
                raise fault
            yield values

    return interrupted


@pytest.mark.parametrize(("count", "kept"), [(0, 0), (1, 0), (2, 2), (5, 4)])
def test_an_interrupted_fill_keeps_what_the_index_names(
    count: int,
    kept: int,
    root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    computed: list[str],
) -> None:
    monkeypatch.setattr(row_cache, "COMMIT", 2)
    with monkeypatch.context() as patch:
        patch.setattr(feature_cache, "compute_here", breaks_after(count, KeyboardInterrupt()))
        with pytest.raises(KeyboardInterrupt):
            compute(root, tmp_path / "cache")
    index = index_of(tmp_path / "cache") if kept else {}
    assert list(index.values()) == list(range(kept))
    assert kept or not (folder_of(tmp_path / "cache") / "index.parquet").exists()
    computed.clear()
    found = compute(root, tmp_path / "cache")
    assert computed == [f"{i}.png" for i in range(kept, 7)]
    at_once = compute(root, tmp_path / "at_once")
    assert np.array_equal(found.open(), at_once.open())
    assert index_of(tmp_path / "cache") == index_of(tmp_path / "at_once")


def test_a_full_disk_is_named(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full = OSError(28, "No space left on device")
    monkeypatch.setattr(feature_cache, "compute_here", breaks_after(1, full))
    with pytest.raises(UserError, match=r"features\.f16: cannot be written .*No space left"):
        compute(root, tmp_path / "cache")


def test_a_cache_that_cannot_be_made_is_named(root: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"file/[0-9a-f]{12}/features\.f16: cannot be written"):
        compute(root, tmp_path / "file")


@pytest.mark.parametrize("content", [b"", b"PAR1", b"no table", None])
def test_a_damaged_index_is_named(content: bytes | None, root: Path, tmp_path: Path) -> None:
    compute(root, tmp_path / "cache", ["0.png"])
    path = folder_of(tmp_path / "cache") / "index.parquet"
    if content is None:
        content = bytes(path.read_bytes()[:-20])
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"index\.parquet: damaged .*delete its folder"):
        compute(root, tmp_path / "cache", ["0.png"])


def test_an_index_with_other_columns_is_named(root: Path, tmp_path: Path) -> None:
    compute(root, tmp_path / "cache", ["0.png"])
    path = folder_of(tmp_path / "cache") / "index.parquet"
    pq.write_table(pa.table({"sha256": ["a"], "place": [0]}), path)
    with pytest.raises(UserError, match=r"index\.parquet: damaged"):
        compute(root, tmp_path / "cache", ["0.png"])


def test_no_flipped_bit_of_the_index_moves_a_hash_or_crashes(tmp_path: Path) -> None:
    path, index = tmp_path / "index.parquet", {f"{i:064x}": i for i in range(3)}
    row_cache.write_index(path, index)
    content = path.read_bytes()
    refused = 0
    for place in range(0, len(content), 3):
        broken = bytearray(content)
        broken[place] ^= 255
        path.write_bytes(broken)
        try:
            found = row_cache.read_index(path)
            assert all(index.get(sha256, row) == row for sha256, row in found.items())
        except UserError:
            refused += 1
    assert refused > 100


@pytest.mark.parametrize("names", [["0.png", "1.png"], None])
@pytest.mark.parametrize("length", [0, 2 * ROW_BYTES - 1, None])
def test_features_shorter_than_their_index_are_never_read_as_zeros(
    length: int | None, names: list[str] | None, root: Path, tmp_path: Path
) -> None:
    compute(root, tmp_path / "cache", ["0.png", "1.png"])
    path = folder_of(tmp_path / "cache") / "features.f16"
    if length is None:
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(UserError, match=r"features\.f16: damaged .*delete its folder"):
        compute(root, tmp_path / "cache", names)


# --- over the cluster -----------------------------------------------------------------------------


@pytest.mark.usefixtures("ray_two_cpus")
def test_the_cluster_computes_the_same_values(signs_folder: Path, tmp_path: Path) -> None:
    paths = [path.relative_to(signs_folder).as_posix() for path in signs_folder.rglob("*.png")]
    table = rows(signs_folder, sorted(paths)[:70])  # three batches of 32, the last one short
    done: list[tuple[int, int]] = []
    from sign_ensemble.data.ray_features import compute_on_cluster

    spread = features_of_rows(
        table,
        signs_folder,
        DATA,
        tmp_path / "spread",
        lambda n, of: done.append((n, of)),
        compute=compute_on_cluster,
    )
    here = features_of_rows(table, signs_folder, DATA, tmp_path / "here")
    assert spread.row_N.tolist() == here.row_N.tolist() == list(range(70))
    assert np.array_equal(spread.open(), here.open())
    assert done[-1] == (70, 70)
    assert len(done) == 70
