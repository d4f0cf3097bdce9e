"""What the networks see of pictures: crops, fingertips, mirrored left hands, features.

Letters: N images.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from rendered_hands import SIDE, Pixels, flipped, rendered_hand

from sign_ensemble.core.config import DataConfig
from sign_ensemble.data import backbone
from sign_ensemble.data.hand_features import features_of_pictures, features_of_views
from sign_ensemble.data.hand_views import FINGERTIPS, HandViews, is_left, look, views_of
from sign_ensemble.data.square_pictures import fit_square
from sign_ensemble.hands.finder import Hands, find_hands
from sign_ensemble.hands.hand_crop import hand_crop
from sign_ensemble.hands.landmark_features import landmark_features

DATA = DataConfig(size=96, weights="random")
HALF = SIDE // 2

pytestmark = pytest.mark.usefixtures("one_thread")


def hands(*of: tuple[int, float], seed: int = 0) -> Hands:
    """So many hands in each picture, and the probability that the surest is a right one; its points
    lie anywhere in the middle of a picture of 320 pixels.
    """
    rng, n = np.random.default_rng(seed), len(of)
    count_N, right_N = (np.array(each) for each in zip(*of, strict=True))
    points_N42 = rng.uniform(100, 220, (n, 42)).astype(np.float32)
    world_N63 = rng.normal(0, 0.1, (n, 63)).astype(np.float32)
    points_N42[count_N == 0], world_N63[count_N == 0] = 0, 0
    presence_N = (count_N > 0).astype(np.float32)
    return Hands(count_N, presence_N, right_N.astype(np.float32), points_N42, world_N63)


def noise(n: int, side: int = SIDE) -> list[Pixels]:
    rng = np.random.default_rng(1)
    return [rng.integers(0, 256, (side, side, 3), dtype=np.uint8) for _ in range(n)]


def test_left_hands() -> None:
    found = is_left(hands((1, 0.49), (1, 0.5), (2, 0.0), (0, 0.0), (1, 1.0)))
    assert found.tolist() == [True, False, True, False, False]


def test_without_a_hand_all_of_the_picture_is_seen() -> None:
    wide = np.random.default_rng(0).integers(0, 256, (100, 300, 3), dtype=np.uint8)
    views = views_of([wide, wide], DATA, hands((0, 0.0), (0, 0.0)), np.array([False, True]))
    assert np.array_equal(views.crops_NHW3[0], fit_square(wide, 96, "pad"))
    assert np.array_equal(views.crops_NHW3[1], views.crops_NHW3[0][:, ::-1])
    assert not views.places_N52.any() and not views.hand_ND.any()


def test_with_a_hand_the_square_around_it_is_seen() -> None:
    shown, of = noise(2), hands((1, 0.9), (2, 0.1))
    views = views_of(shown, DATA, of)
    assert views.mirrored_N.tolist() == [False, True]
    assert views.crops_NHW3.shape == (2, 96, 96, 3)
    assert np.array_equal(views.crops_NHW3[0], hand_crop(shown[0], of.points_N42[0], 96))
    assert np.array_equal(views.crops_NHW3[1], hand_crop(shown[1], of.points_N42[1], 96, True))
    expected = landmark_features(of, np.array([False, True]))
    assert np.array_equal(views.hand_ND[:, :-1], expected)
    assert views.hand_ND[:, -1].tolist() == [1, 2]


def test_hands_are_counted_up_to_two() -> None:
    views = views_of(noise(3), DATA, hands((3, 0.9), (0, 0.0), (1, 0.9)))
    assert views.hand_ND[:, -1].tolist() == [2, 0, 1]
    assert views.hand_ND.shape == (3, backbone.OF_LANDMARKS + 1)


def test_left_hands_are_mirrored_unless_handedness_has_meaning() -> None:
    shown, of = noise(2), hands((1, 0.1), (1, 0.9))
    as_is = views_of(shown, replace(DATA, handedness="as-is"), of)
    assert as_is.mirrored_N.tolist() == [False, False]
    forced = views_of(shown, DATA, of, np.array([False, True]))  # the caller may know better
    assert forced.mirrored_N.tolist() == [False, True]
    assert np.array_equal(forced.crops_NHW3[0], as_is.crops_NHW3[0])
    mirrored = views_of(shown, DATA, of)
    assert np.array_equal(mirrored.crops_NHW3[1], as_is.crops_NHW3[1])
    assert not np.array_equal(mirrored.crops_NHW3[0], as_is.crops_NHW3[0])


@pytest.mark.parametrize("mirrored", [False, True])
def test_fingertips_are_where_the_crop_shows_them(mirrored: bool) -> None:
    """A bright dot at each fingertip in turn, looked for in the crop."""
    for tip, point in enumerate(FINGERTIPS):
        of = hands((1, 0.9), seed=tip)
        x, y = of.points_N42[0].reshape(21, 2)[point]
        picture = np.zeros((SIDE, SIDE, 3), np.uint8)
        picture[int(y) - 4 : int(y) + 5, int(x) - 4 : int(x) + 5] = 255
        views = views_of([picture], DATA, of, np.array([mirrored]))
        crop = views.crops_NHW3[0, :, :, 0].astype(float)
        seen = [(crop.sum(axis) * (np.arange(96) + 0.5)).sum() / crop.sum() for axis in (0, 1)]
        place = (views.places_N52[0, tip] + 1) / 2 * 96  # from -1 to 1 over the crop
        assert place == pytest.approx(np.array(seen), abs=0.6)
        assert (np.abs(views.places_N52) <= 1 / 1.36 + 1e-6).all()


def test_a_left_hand_is_seen_as_its_mirror_image() -> None:
    right = rendered_hand("v")
    views = look([right, flipped(right)], DATA)
    assert views.mirrored_N.tolist() == [False, True]
    differ = views.crops_NHW3[0].astype(int) - views.crops_NHW3[1]
    assert np.abs(differ).mean() < 12  # of the same hand, at most a few pixels moved
    opposite = views.crops_NHW3[0].astype(int) - views.crops_NHW3[1, :, ::-1]
    assert np.abs(opposite).mean() > 2 * np.abs(differ).mean()
    assert views.places_N52[0] == pytest.approx(views.places_N52[1], abs=0.12)
    of_hands = views.hand_ND.astype(float)
    assert np.abs(of_hands[0] - of_hands[1]).mean() < 0.1


# --- features -------------------------------------------------------------------------------------


def test_features_of_what_is_seen() -> None:
    shown, of = noise(3), hands((1, 0.9), (0, 0.0), (2, 0.2))
    views = views_of(shown, DATA, of)
    found = features_of_views(views, "random")
    assert found.all_ND.shape == (3, backbone.ALL_FEATURES)
    of_crops = backbone.load("random").of_images(views.crops_NHW3)
    assert np.array_equal(found.all_ND[:, : backbone.OF_IMAGE], of_crops.all_ND)
    of_hand = found.of_hand
    assert of_hand.hands_N.tolist() == [1, 0, 2]
    assert np.array_equal(of_hand.landmarks_ND, views.hand_ND[:, :-1])
    for tips_ND in (of_hand.tips_third_ND, of_hand.tips_fourth_ND):
        assert tips_ND[0].any() and tips_ND[2].any() and not tips_ND[1].any()
    assert of_hand.tips_third_ND.shape == (3, 384 * 5)
    assert of_hand.tips_fourth_ND.shape == (3, 256 * 5)


def test_a_fingertip_reads_the_maps_at_its_place() -> None:
    """In the middle of a map's cell the values are the cell's; five fingers in turn."""
    views = views_of(noise(1), DATA, hands((1, 0.9)))
    net = backbone.load("random")
    pixels = np.concatenate([views.crops_NHW3, np.zeros((63, 96, 96, 3), np.uint8)])
    with torch.inference_mode():
        read = backbone.as_input(torch.from_numpy(pixels).to(net.device), net.half)
        with torch.autocast(net.device.type, dtype=torch.bfloat16, enabled=net.half):
            maps = net.layers.through(0, 8, read)[0].float().cpu().numpy()
    side = maps.shape[-1]
    cells = [(0, 0), (1, 3), (2, 2), (side - 1, 0), (3, side - 1)]  # row and column
    places = np.array([[2 * (x + 0.5) / side - 1, 2 * (y + 0.5) / side - 1] for y, x in cells])
    placed = replace(views, places_N52=places[None].astype(np.float32))
    tips = features_of_views(placed, "random").of_hand.tips_third_ND[0].reshape(384, 5)
    for finger, (y, x) in enumerate(cells):
        assert tips[:, finger] == pytest.approx(maps[:, y, x], rel=2e-2, abs=2e-2), finger


def test_pictures_in_memory() -> None:
    shown = [rendered_hand("v"), np.full((SIDE, SIDE, 3), 230, np.uint8)]
    found = features_of_pictures(shown, DATA)
    expected = features_of_views(views_of(shown, DATA, find_hands(shown)), "random")
    assert np.array_equal(found.all_ND, expected.all_ND)
    assert found.of_hand.hands_N.tolist() == [1, 0]
    assert np.array_equal(features_of_pictures(np.stack(shown), DATA).all_ND, found.all_ND)


def test_where_hands_are_not_looked_for_the_picture_is_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from sign_ensemble.data import hand_views

    def never(*rest: Any) -> HandViews:
        raise AssertionError("hands were looked for")

    monkeypatch.setattr(hand_views, "find_hands", never)
    images = np.stack(noise(2, 96))
    found = features_of_pictures(images, replace(DATA, crop="none"))
    assert np.array_equal(found.all_ND, backbone.load("random").of_images(images).all_ND)
    assert found.all_ND.shape == (2, backbone.OF_IMAGE)


@pytest.mark.parametrize("make", [list, np.stack])
def test_a_list_or_an_array_of_pictures(make: Callable[[list[Pixels]], Any]) -> None:
    views = look(make(noise(2, 64)), DATA)
    assert views.crops_NHW3.shape == (2, 96, 96, 3)
