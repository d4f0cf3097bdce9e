"""Where the hand is: known pictures with and without one, and MediaPipe's own reading of others.

Letters: N images.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import pi
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from rendered_hands import FOUND, SIDE, Pixels, box, flipped, gap, rendered_hand

from sign_ensemble.data.far_ood import PHOTOGRAPHS, far_images, picture
from sign_ensemble.hands import finder
from sign_ensemble.hands.finder import VALUES, Hands, distinct, find_hands, hands_near
from sign_ensemble.hands.hand_networks import load_networks
from sign_ensemble.hands.hand_region import POINTS, Region
from sign_ensemble.hands.network_inputs import (
    border_colour,
    palm_input,
    region_input,
    square_with_margin,
)
from sign_ensemble.hands.palm_detection import anchor_centres

DATA = Path(__file__).parents[2].parent / "shared" / "data"
MASSEY, LANDMARKS = DATA / "massey-asl", DATA / "massey-landmarks.npz"
EVERY = 42  # images of Massey's between two that are read: 60 of all five signers
NO_DATA = "Massey's images and landmarks are not next to the repository"

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def pictures() -> list[Pixels]:
    return [rendered_hand(label) for label in FOUND]


@pytest.fixture(scope="module")
def hands(pictures: list[Pixels]) -> Hands:
    """Those of the pictures, found together."""
    return find_hands(pictures)


def rows(hands: Hands, chosen: Sequence[int]) -> np.ndarray:
    return hands.values_ND[list(chosen)]


# --- what the networks are shown ------------------------------------------------------------------


def test_the_border_has_a_median_colour() -> None:
    rgb = np.full((4, 6, 3), 99, np.uint8)
    rgb[0], rgb[-1] = (10, 20, 30), (10, 20, 40)
    rgb[1:-1, 0], rgb[1:-1, -1] = (200, 20, 40), (210, 20, 40)  # 6 + 6 + 2 + 2 pixels
    assert border_colour(rgb) == (10, 20, 40)


def test_the_detector_sees_the_picture_with_a_margin() -> None:
    rgb = np.full((100, 200, 3), 255, np.uint8)
    assert square_with_margin(rgb, 0.25) == (300, -50, -100)
    view = palm_input(rgb, 0.25, (51, 102, 153))
    assert view.shape == (192, 192, 3) and view.dtype == np.float32
    inside = np.zeros((192, 192), bool)
    inside[64:128, 32:160] = True  # 64 high and 128 wide, in the middle
    np.testing.assert_allclose(view[inside], 1, atol=1e-6)
    np.testing.assert_allclose(view[~inside] - [0.2, 0.4, 0.6], 0, atol=1e-6)


def test_a_region_is_seen_pixel_by_pixel() -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (300, 400, 3), dtype=np.uint8)
    seen = rgb[20:244, 100:324].astype(np.float32) / 255
    region = Region(100 + 112, 20 + 112, 224, 0.0)
    np.testing.assert_allclose(region_input(rgb, region, (0, 0, 0)), seen, atol=1e-6)
    right = Region(region.x, region.y, 224, pi / 2)  # up in the view is right in the picture
    turned = region_input(rgb, right, (0, 0, 0))
    np.testing.assert_allclose(turned, np.rot90(seen), atol=1 / 255 + 1e-6)


def test_beyond_the_picture_a_region_has_the_colour() -> None:
    rgb = np.full((100, 100, 3), 255, np.uint8)
    view = region_input(rgb, Region(0, 50, 224, 0.0), (51, 102, 153))
    assert view[112, :110] == pytest.approx(np.tile([0.2, 0.4, 0.6], (110, 1)))
    assert view[112, 114:210] == pytest.approx(1)


# --- records --------------------------------------------------------------------------------------


def test_values_and_back(hands: Hands) -> None:
    values = hands.values_ND
    assert values.shape == (len(FOUND), VALUES) and values.dtype == np.float32
    assert VALUES == 3 + 42 + 63
    again = Hands.of_values(values)
    for name, value in vars(hands).items():
        assert np.array_equal(getattr(again, name), value), name
    assert again.count_N.dtype == np.int64
    assert again.found_N.all()


def hand(presence: float, left: float, size: float = 10.0, right: float = 0.5) -> Any:
    """A hand whose points lie in a square of this left edge and size."""
    points = np.zeros((POINTS, 2))
    points[1] = size
    points[:, 0] += left
    return finder._Hand(presence, right, points.ravel(), np.zeros(63))


def test_hands_that_lie_on_each_other_are_one() -> None:
    first, same, other, faint = hand(0.7, 0), hand(0.9, 2), hand(0.6, 5), hand(0.49, 30)
    # shifted by 2 of 10 they share 8 of 12, shifted by 5 only 5 of 15
    assert distinct([first, same, other, faint]) == [first, other]
    assert distinct([faint, first]) == [first]
    assert distinct([]) == []


def test_the_record_is_of_the_first_hand_that_counts() -> None:
    faint, first, other = hand(0.4, 3), hand(0.6, 0, right=0.25), hand(0.8, 50, right=0.75)
    found = finder.as_record([[faint, first, other], [], [faint]])
    assert found.count_N.tolist() == [2, 0, 0]
    assert found.presence_N == pytest.approx([0.8, 0, 0.4])  # also where none is found
    assert found.right_N == pytest.approx([0.25, 0, 0])
    assert np.array_equal(found.points_N42[0], first.points_42)
    assert not found.points_N42[1:].any() and not found.world_N63.any()


def test_how_far_points_moved() -> None:
    assert finder.moved(hand(1, 0), hand(1, 3)) == pytest.approx(0.3)  # 3 of 10 pixels
    assert finder.moved(hand(1, 0, 0), hand(1, 3, 0)) == pytest.approx(3)  # of a pixel at least


def test_no_pictures_have_no_hands() -> None:
    for found in (find_hands([]), hands_near([], [])):
        assert found.values_ND.shape == (0, VALUES)


# --- with a hand ----------------------------------------------------------------------------------


def test_a_rendered_right_hand_is_found(hands: Hands) -> None:
    assert hands.count_N.tolist() == [1] * len(FOUND)
    assert hands.presence_N.min() > 0.9
    assert hands.right_N.min() > 0.9


def test_points_lie_on_the_hand(pictures: list[Pixels], hands: Hands) -> None:
    """Skin is darker than the wall."""
    for picture_HW3, points_42 in zip(pictures, hands.points_N42, strict=True):
        x, y = points_42.reshape(POINTS, 2).T.astype(int)
        on_skin = picture_HW3[y, x].mean(-1) < 0.8 * np.mean(border_colour(picture_HW3))
        assert on_skin.mean() > 0.85


def test_the_spread_fingers_are_where_they_are_seen(hands: Hands) -> None:
    def tip(label: str, point: int) -> np.ndarray:
        return hands.points_N42[FOUND.index(label)].reshape(POINTS, 2)[point]

    wrist = tip("l", 0)
    assert tip("l", 8)[1] < wrist[1] - 0.3 * SIDE  # the index finger points up
    assert tip("l", 4)[0] > wrist[0] + 0.2 * SIDE  # and the thumb to the right
    assert tip("y", 20)[0] < tip("y", 4)[0] - 0.4 * SIDE  # the little finger is opposite the thumb


def test_world_points_are_metres_and_turned_as_in_the_picture(hands: Hands) -> None:
    index = FOUND.index("v")
    world = hands.world_N63[index].reshape(POINTS, 3)
    assert 0.1 < np.ptp(world, axis=0).max() < 0.25
    assert world[12, 1] < world[0, 1] - 0.08  # the middle finger's tip above the wrist
    seen, in_space = hands.points_N42[index].reshape(POINTS, 2), world[:, :2]
    seen, in_space = ((each - each.mean(0)) / each.std() for each in (seen, in_space))
    assert np.abs(seen - in_space).mean() < 0.3


def test_a_batch_is_its_pictures_one_by_one(hands: Hands, pictures: list[Pixels]) -> None:
    grey = np.full((90, 50, 3), 128, np.uint8)
    sizes = [picture_HW3[10 : 300 - 7 * i, 20:] for i, picture_HW3 in enumerate(pictures)]
    mixed = [grey, *sizes, grey[:40], *pictures]  # more than one pass of 8
    together = find_hands(mixed)
    assert together.found_N.tolist() == [False] + [True] * 6 + [False] + [True] * 6
    for i, one in enumerate(mixed):
        assert np.array_equal(find_hands([one]).values_ND[0], together.values_ND[i])
    assert np.array_equal(together.values_ND[8:], hands.values_ND)


def test_threads_change_nothing(hands: Hands, pictures: list[Pixels]) -> None:
    torch.set_num_threads(2)
    try:
        found = find_hands(pictures * 2)
    finally:
        torch.set_num_threads(1)
    assert np.array_equal(found.values_ND, np.tile(hands.values_ND, (2, 1)))
    assert np.array_equal(find_hands(pictures, threads=False).values_ND, hands.values_ND)


def test_a_hand_that_fills_the_picture_is_found(hands: Hands, pictures: list[Pixels]) -> None:
    cropped, corners = [], []
    for picture_HW3, points_42 in zip(pictures, hands.points_N42, strict=True):
        low, high = box(points_42)
        left, top = np.maximum(np.floor(low - 8), 0).astype(int)
        right, bottom = np.ceil(high + 8).astype(int)
        cropped.append(picture_HW3[top:bottom, left:right])
        corners.append(np.tile([left, top], POINTS))
    found = find_hands(cropped)
    assert found.count_N.tolist() == [1] * len(FOUND)
    assert found.right_N.min() > 0.9
    for before, after, corner in zip(hands.points_N42, found.points_N42, corners, strict=True):
        assert gap(before, after + corner) < 0.04


def test_a_mirrored_picture_shows_the_other_hand(hands: Hands, pictures: list[Pixels]) -> None:
    found = find_hands([flipped(each) for each in pictures])
    assert found.count_N.tolist() == [1] * len(FOUND)
    assert found.right_N.max() < 0.1
    back = found.points_N42.reshape(-1, POINTS, 2) * [-1, 1] + [SIDE, 0]
    for before, after in zip(hands.points_N42, back.reshape(-1, 2 * POINTS), strict=True):
        assert gap(before, after) < 0.05


def test_a_larger_picture_shows_the_same_hand(hands: Hands, pictures: list[Pixels]) -> None:
    large = [np.asarray(Image.fromarray(each).resize((3 * SIDE,) * 2)) for each in pictures]
    found = find_hands(large)
    assert found.count_N.tolist() == [1] * len(FOUND)
    for before, after in zip(hands.points_N42, found.points_N42, strict=True):
        assert gap(before, after / 3) < 0.02


def test_two_hands_side_by_side_are_two() -> None:
    first, other = rendered_hand("b"), rendered_hand("v")  # of other signs a palm is often missed
    found = find_hands([np.hstack([first, flipped(first)]), np.hstack([first, other])])
    assert found.count_N.tolist() == [2, 2]
    alone = find_hands([first, other, flipped(first)])
    for i, right in enumerate(found.right_N):
        low, high = box(found.points_N42[i])
        on_the_left = high[0] < SIDE
        assert on_the_left or low[0] > SIDE  # points of one of the two
        assert (right > 0.5) == (on_the_left or i == 1)
        of = 0 if on_the_left else 2 - i
        points = found.points_N42[i] - np.tile([0 if on_the_left else SIDE, 0], POINTS)
        assert gap(alone.points_N42[of], points) < 0.05


# --- without one ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name, most", [("blank", 10), ("noise", 6), ("photographs", 10)])
def test_a_picture_without_a_hand(name: str, most: int) -> None:
    found = find_hands(list(far_images(name, most, 224, 3, np.zeros((0, 1, 1, 3), np.uint8))))
    assert found.count_N.tolist() == [0] * most
    assert found.presence_N.max() < 0.5
    assert not found.right_N.any() and not found.points_N42.any() and not found.world_N63.any()


def test_whole_photographs_without_a_hand() -> None:
    assert not find_hands([picture(name) for name in PHOTOGRAPHS[:6]]).found_N.any()


# --- odd sizes ------------------------------------------------------------------------------------


def test_small_and_narrow_pictures() -> None:
    rng = np.random.default_rng(0)
    shapes = [(16, 16), (16, 48), (48, 16), (300, 100), (1, 1), (2, 700)]
    shown = [rng.integers(0, 256, (*shape, 3), dtype=np.uint8) for shape in shapes]
    shown += [np.zeros_like(each) for each in shown]
    found = find_hands(shown)
    assert not found.found_N.any()


def test_a_hand_in_few_pixels() -> None:
    small = [
        np.asarray(Image.fromarray(rendered_hand("l")).resize((side, side), Image.Resampling.BOX))
        for side in (16, 32)
    ]
    found = find_hands(small)
    assert found.count_N.tolist() == [1, 1]
    assert gap(2 * found.points_N42[0], found.points_N42[1]) < 0.1


def test_a_hand_in_a_narrow_picture(hands: Hands) -> None:
    index = FOUND.index("v")
    one = rendered_hand("v")
    wide = np.hstack([one, *[np.repeat(one[:, -1:], SIDE, 1)] * 2])
    tall = np.vstack([*[np.repeat(one[:1], SIDE, 0)] * 2, one])
    found = find_hands([wide, tall])
    assert wide.shape == (SIDE, 3 * SIDE, 3) and tall.shape == (3 * SIDE, SIDE, 3)
    assert found.count_N.tolist() == [1, 1]
    assert gap(hands.points_N42[index], found.points_N42[0]) < 0.04
    below = found.points_N42[1] - np.tile([0, 2 * SIDE], POINTS)
    assert gap(hands.points_N42[index], below) < 0.04


# --- near known points ----------------------------------------------------------------------------


def expected(hands: Hands) -> list[np.ndarray[Any, Any] | None]:
    return [points_42.astype(np.float64) for points_42 in hands.points_N42]


def test_known_points_spare_the_detector(
    hands: Hands, pictures: list[Pixels], monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*rest: Any) -> list[Any]:
        raise AssertionError("the detector was asked")

    monkeypatch.setattr(finder, "palms_in", never)
    near = [each + 6 for each in expected(hands) if each is not None]  # a hand that moved a little
    found = hands_near(pictures, near)
    assert found.count_N.tolist() == [1] * len(FOUND)
    for before, after in zip(hands.points_N42, found.points_N42, strict=True):
        assert gap(before, after) < 0.04
    with pytest.raises(AssertionError, match="asked"):
        hands_near(pictures[:1], [None])


def test_without_points_and_where_they_mislead_the_detector_is_asked(
    hands: Hands, pictures: list[Pixels]
) -> None:
    corner = hands.points_N42[0].astype(np.float64) / 20  # in a corner of the wall
    points = expected(hands)
    points[1], points[3] = None, corner
    found = hands_near(pictures, points)
    assert np.array_equal(rows(found, [1, 3]), rows(hands, [1, 3]))
    assert np.array_equal(hands_near(pictures, [None] * 6).values_ND, hands.values_ND)
    one_by_one = [hands_near([p], [q]) for p, q in zip(pictures, points, strict=True)]
    together = np.concatenate([each.values_ND for each in one_by_one])
    assert np.array_equal(found.values_ND, together)


def test_points_show_no_hand_where_there_is_none(hands: Hands) -> None:
    wall = np.full((SIDE, SIDE, 3), 220, np.uint8)
    found = hands_near([wall, wall], [expected(hands)[0], None])
    assert found.count_N.tolist() == [0, 0] and not found.points_N42.any()


# --- as MediaPipe reads them ----------------------------------------------------------------------


@pytest.mark.skipif(not (MASSEY.is_dir() and LANDMARKS.is_file()), reason=NO_DATA)
def test_hands_are_where_mediapipe_finds_them() -> None:
    with np.load(LANDMARKS) as read:
        names, points, score, world = (
            read[name][::EVERY] for name in ("path", "image_px", "handedness_score", "world_m")
        )
    shown = [np.asarray(Image.open(MASSEY / str(name)).convert("RGB")) for name in names]
    margins = np.array([round(0.25 * max(each.shape[:2])) for each in shown])
    points = points[:, :, :2] - margins[:, None, None]
    found, theirs = find_hands(shown), score > 0
    assert len(shown) == 60 and theirs.sum() > 55
    assert found.found_N[theirs].mean() >= 0.98
    both = theirs & found.found_N
    ours = found.points_N42.reshape(-1, POINTS, 2)
    distance = np.linalg.norm(ours - points, axis=2).mean(1)
    share = distance[both] / np.ptp(points, axis=1).max(1)[both]
    assert np.median(share) <= 0.02
    assert np.quantile(share, 0.95) <= 0.04
    # MediaPipe's score is of the hand that it names: of these all are right ones, as here
    assert ((found.right_N > 0.5) == (score > 0.5))[both].mean() >= 0.97
    off_m = np.linalg.norm(found.world_N63.reshape(-1, POINTS, 3) - world, axis=2).mean(1)
    assert np.median(off_m[both]) < 0.008


def test_the_detector_is_given_the_anchors_it_was_trained_with() -> None:
    """A palm's box lies around its anchor: the best anchor's is on the palm."""
    networks = load_networks()
    view = palm_input(rendered_hand("b"), 0.25, border_colour(rendered_hand("b")))
    _, logits = networks.palms(view[None])
    x, y = anchor_centres()[logits[0].argmax()] * 1.5 * SIDE - 0.25 * SIDE
    points = find_hands([rendered_hand("b")]).points_N42[0].reshape(POINTS, 2)
    low, high = points.min(0), points.max(0)
    assert low[0] - 10 < x < high[0] + 10 and low[1] < y < high[1] + 20


def test_a_part_of_a_hand_is_no_second_hand() -> None:
    """A smaller box inside a hand's box, and a much smaller one next to it, are not counted."""

    def hand(left: float, top: float, side: float) -> finder._Hand:
        across = np.linspace(0, side, 21)
        return finder._Hand(
            0.9, 0.9, np.stack([left + across, top + across], 1).ravel(), np.zeros(63)
        )

    whole_hand, finger, sleeve = hand(0, 0, 100), hand(20, 20, 45), hand(120, 0, 30)
    other = hand(120, 0, 60)
    assert finder.distinct([whole_hand, finger, sleeve]) == [whole_hand]
    assert finder.distinct([whole_hand, other]) == [whole_hand, other]
