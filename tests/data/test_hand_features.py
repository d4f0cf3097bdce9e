"""Cached features of hands: the same as of pictures in memory, and rows of mirrored images.

Letters: N images, V an image and its augmented copies, D features.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from rendered_hands import flipped, rendered_hand

from sign_ensemble.core.config import DataConfig
from sign_ensemble.data import backbone, feature_cache, hand_views
from sign_ensemble.data.feature_cache import (
    all_layers,
    cache_key,
    features_of_rows,
    hand_counts,
    hands_of_rows,
    landmarks_of,
    plain_features,
)
from sign_ensemble.data.hand_features import features_of_pictures, features_of_views
from sign_ensemble.data.hand_mask import hand_mask_of
from sign_ensemble.data.hand_views import views_of
from sign_ensemble.data.images import read_image
from sign_ensemble.data.picture_conditions import copy_of, drawn_conditions, moved_points
from sign_ensemble.data.row_cache import CachedArray, Work
from sign_ensemble.hands import hand_crop, hand_networks, palm_detection
from sign_ensemble.hands.finder import Hands, find_hands, hands_near
from sign_ensemble.hands.hand_crop import box_of

DATA = DataConfig(size=96, augmentations=1, weights="random")
NAMES = ("b.png", "left.png", "v.png", "wall.png")
LEFT, WALL = NAMES.index("left.png"), NAMES.index("wall.png")

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two right hands, a left one, and a wall."""
    folder = tmp_path_factory.mktemp("hands")
    wall = np.random.default_rng(0).normal(220, 3, (240, 320, 3)).astype(np.uint8)
    shown = (rendered_hand("b"), flipped(rendered_hand("y")), rendered_hand("v"), wall)
    for name, picture in zip(NAMES, shown, strict=True):
        Image.fromarray(picture).save(folder / name)
    return folder


@pytest.fixture(scope="module")
def cached(root: Path, tmp_path_factory: pytest.TempPathFactory) -> CachedArray:
    """Features of the four images and a copy of each."""
    return features_of_rows(rows(root), root, DATA, tmp_path_factory.mktemp("cache"))


def rows(root: Path, names: Sequence[str] = NAMES) -> pa.Table:
    hashes = [hashlib.sha256((root / name).read_bytes()).hexdigest() for name in names]
    return pa.table({"path": list(names), "sha256": hashes})


def pictures(root: Path) -> list[np.ndarray]:
    return [read_image(root / name, DATA) for name in NAMES]


def every(found: CachedArray) -> np.ndarray:
    """All features (N, V, D)."""
    return all_layers(found).open()[found.row_N]


def same_hands(first: Hands, second: Hands) -> bool:
    return np.array_equal(first.values_ND, second.values_ND)


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, bool]]:
    """Names of the images whose features were computed, and whether they were mirrored."""
    done: list[tuple[str, bool]] = []
    real = feature_cache.compute_here

    def counted(works: Sequence[Work], data: DataConfig) -> Iterator[np.ndarray]:
        done.extend((Path(work.path).name, work.mirrored) for work in works)
        return real(works, data)

    monkeypatch.setattr(feature_cache, "compute_here", counted)
    return done


# --- as of pictures in memory ---------------------------------------------------------------------


def test_pictures_are_read_twice_as_large(root: Path) -> None:
    assert [picture.shape for picture in pictures(root)] == [(192, 192, 3)] * 4


def test_cached_hands_are_those_of_the_pictures(root: Path, tmp_path: Path) -> None:
    found = hands_of_rows(rows(root), root, DATA, tmp_path)
    assert found.count_N.tolist() == [1, 1, 1, 0]
    assert (found.right_N > 0.5).tolist() == [True, False, True, False]
    assert same_hands(found, find_hands(pictures(root)))

    def never(works: Sequence[Work], data: DataConfig) -> Iterator[np.ndarray]:
        raise AssertionError("looked again")

    again = hands_of_rows(rows(root, NAMES[::-1]), root, DATA, tmp_path, compute=never)
    assert np.array_equal(again.values_ND[::-1], found.values_ND)
    (folder,) = tmp_path.iterdir()
    assert folder.name.startswith("hands-") and (folder / "hands.f32").is_file()


def test_a_cached_image_is_as_in_memory(root: Path, cached: CachedArray) -> None:
    in_memory = features_of_pictures(pictures(root), DATA).all_ND
    assert every(cached).shape == (4, 2, backbone.ALL_FEATURES)
    assert np.array_equal(every(cached)[:, 0], in_memory)
    assert np.array_equal(plain_features(cached), in_memory[:, : backbone.HEAD_FEATURES])
    landmarks = backbone.Features(in_memory).of_hand.landmarks_ND
    assert np.array_equal(plain_features(landmarks_of(cached)), landmarks)
    assert landmarks[:3].any(1).all() and not landmarks[WALL].any()


def test_a_cached_copy_is_what_is_seen_of_it(root: Path, cached: CachedArray) -> None:
    shown = pictures(root)
    hands, hashes = find_hands(shown), rows(root).column("sha256").to_pylist()
    copies, expected = [], []
    for i, picture in enumerate(shown):
        points = hands.points_N42[i] if hands.found_N[i] else None
        box = (96.0, 96.0, 192.0) if points is None else box_of(points)
        made = copy_of(picture, box, hand_mask_of(picture, points), hashes[i], 1)
        copies.append(made.picture_HW3)
        expected.append(None if points is None else moved_points(points, made.to_copy))
    seen = hands_near(copies, expected)
    mirrored = np.array([i == LEFT for i in range(4)])
    by_hand = features_of_views(views_of(copies, DATA, seen, mirrored), "random").all_ND
    assert np.array_equal(every(cached)[:, 1], by_hand)
    assert all(drawn_conditions(key, 1) is not None for key in hashes)


def test_hands_are_counted_in_images_and_copies(root: Path, cached: CachedArray) -> None:
    counts = hand_counts(cached)
    assert counts.shape == (4, 2) and counts[:, 0].tolist() == [1, 1, 1, 0]
    uncropped = replace(cached, shape=(2, backbone.OF_IMAGE))
    assert hand_counts(uncropped).tolist() == [[0, 0]] * 4  # where hands are not looked for


def test_given_hands_are_not_looked_for(root: Path, tmp_path: Path, cached: CachedArray) -> None:
    hands = find_hands(pictures(root))
    found = features_of_rows(rows(root), root, DATA, tmp_path, hands=hands)
    assert [folder.name[:6] == "hands-" for folder in tmp_path.iterdir()] == [False]
    assert np.array_equal(every(found), every(cached))


# --- mirrored images ------------------------------------------------------------------------------


def test_mirrored_images_have_rows_of_their_own(
    root: Path, tmp_path: Path, computed: list[tuple[str, bool]]
) -> None:
    some, data = rows(root, NAMES[:2]), replace(DATA, augmentations=0)
    hands = hands_of_rows(some, root, data, tmp_path)

    def compute(*mirrored: bool) -> CachedArray:
        return features_of_rows(
            some, root, data, tmp_path, hands=hands, mirrored_N=np.array(mirrored)
        )

    first = compute(False, True)
    assert computed == [("b.png", False), ("left.png", True)]
    other = compute(True, True)
    assert computed[2:] == [("b.png", True)]
    third = compute(False, False)
    assert computed[3:] == [("left.png", False)]
    assert compute(True, False).row_N.tolist() == [2, 3]
    assert len(computed) == 4
    assert [each.row_N.tolist() for each in (first, other, third)] == [[0, 1], [2, 1], [0, 3]]
    folder = Path(first.path).parent
    keys, hashes = pq.read_table(folder / "index.parquet").to_pydict()["sha256"], some["sha256"]
    a, b = hashes.to_pylist()
    assert keys == [a, f"{b}-mirrored", f"{a}-mirrored", b]
    shown = pictures(root)[:2]
    for found, mirrored in ((first, [False, True]), (other, [True, True])):
        views = views_of(shown, data, hands, np.array(mirrored))
        assert np.array_equal(every(found)[:, 0], features_of_views(views, "random").all_ND)


def test_the_same_content_mirrored_and_not(root: Path, tmp_path: Path) -> None:
    """Two signers' pictures of one content: one signer is mirrored, the other is not."""
    data = replace(DATA, augmentations=0)
    twice = rows(root, ["b.png", "b.png"])
    found = features_of_rows(twice, root, data, tmp_path, mirrored_N=np.array([False, True]))
    assert found.row_N.tolist() == [0, 1]
    plain, mirrored = every(found)[:, 0]
    assert not np.array_equal(plain, mirrored)
    landmarks = plain_features(landmarks_of(found)).astype(float)
    assert landmarks[0, :40:2] == pytest.approx(-landmarks[1, :40:2])  # x of the points
    assert landmarks[0, 1:40:2] == pytest.approx(landmarks[1, 1:40:2])


def test_as_is_mirrors_nothing(
    root: Path, tmp_path: Path, computed: list[tuple[str, bool]]
) -> None:
    data = replace(DATA, augmentations=0, handedness="as-is")
    found = features_of_rows(rows(root), root, data, tmp_path)
    assert not any(mirrored for _, mirrored in computed)
    assert np.array_equal(every(found)[:, 0], features_of_pictures(pictures(root), data).all_ND)


# --- what a cache folder depends on ---------------------------------------------------------------


@pytest.mark.parametrize(
    "change", [{"crop": "none"}, {"handedness": "as-is"}, {"mirror": True}, {"size": 128}]
)
def test_other_settings_have_another_key(change: dict[str, Any]) -> None:
    key = cache_key(DATA, "abc")
    assert json.loads(json.dumps(key))["crop"] == "hand"
    assert cache_key(replace(DATA, **change), "abc") != key


def test_settings_without_effect_share_the_key() -> None:
    uncropped = replace(DATA, crop="none")
    assert cache_key(replace(uncropped, handedness="as-is"), "a") == cache_key(uncropped, "a")
    assert cache_key(replace(DATA, fit="squash"), "a") == cache_key(DATA, "a")  # always pad


@pytest.mark.parametrize(
    "module, name, value",
    [
        (hand_views, "HAND_VERSION", 99),
        (hand_crop, "MARGIN", 0.5),
        (palm_detection, "LEAST_SCORE", 0.7),
        (palm_detection, "OVERLAP", 0.4),
        (hand_networks, "SHA256", {hand_networks.PALM_FILE: "0", hand_networks.HAND_FILE: "1"}),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_another_way_of_finding_hands_has_another_key(
    module: Any, name: str, value: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, uncropped = cache_key(DATA, "abc"), cache_key(replace(DATA, crop="none"), "abc")
    monkeypatch.setattr(module, name, value)
    assert cache_key(DATA, "abc") != key
    assert cache_key(replace(DATA, crop="none"), "abc") == uncropped


def test_hands_do_not_depend_on_copies(root: Path, tmp_path: Path) -> None:
    for data in (DATA, replace(DATA, augmentations=3, handedness="as-is", weights="shipped")):
        hands_of_rows(rows(root, NAMES[:1]), root, data, tmp_path)
    assert len(list(tmp_path.iterdir())) == 1
    hands_of_rows(rows(root, NAMES[:1]), root, replace(DATA, size=112), tmp_path)
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.usefixtures("ray_two_cpus")
def test_the_cluster_finds_the_same_hands_and_features(
    root: Path, cached: CachedArray, tmp_path: Path
) -> None:
    from sign_ensemble.data.ray_features import compute_on_cluster, hands_on_cluster

    hands = hands_of_rows(rows(root), root, DATA, tmp_path, compute=hands_on_cluster)
    here = hands_of_rows(rows(root), root, DATA, tmp_path / "here")
    assert np.array_equal(hands.values_ND, here.values_ND)
    spread = features_of_rows(
        rows(root), root, DATA, tmp_path, compute=compute_on_cluster, hands=hands
    )
    assert np.array_equal(every(spread), every(cached))
