"""Pictures → the hand in each: where it is, its points, which hand, how surely, and how many.

The palm detector looks at the whole picture with a margin around it, since it misses hands that
fill the picture. The landmark network reads the turned square around each palm, and then once more
the square around the points it found. Where no palm shows a hand, the whole picture is taken for
such a square; its points must then stay where they are. A palm without a hand does not count.

Letters: N images, H and W rows and columns, D values of a hand (features).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sign_ensemble.core.threads import map_on_threads
from sign_ensemble.hands import hand_networks, hand_region, palm_detection
from sign_ensemble.hands.hand_networks import BATCH, HandNetworks
from sign_ensemble.hands.hand_region import POINTS, Region
from sign_ensemble.hands.network_inputs import (
    border_colour,
    painted_over,
    palm_input,
    region_input,
    square_with_margin,
)
from sign_ensemble.hands.palm_detection import Palm

MARGIN = 0.25  # share of the picture's longer side that is put around it
WIDE_MARGIN, FAINT_PALM = 0.5, 0.2  # where nothing was found: another margin, palms of less score
WHOLE = 1.25  # side of the square against the picture's, where the picture is taken for a hand
STILL = 0.05  # share of the hand's size: most that points may move when they are read again
VALUES = 3 + 5 * POINTS  # of a hand
MOST_PALMS = 3  # looked at in one picture: more make no difference to what is said of it
LEAST_PRESENCE = 0.5  # the landmark network's probability from which there is a hand
SAME_HAND = 0.5  # part of the smaller of two hands' boxes inside the other from which they are one
LEAST_SIZE = 0.35  # of another hand against the first: a smaller one is a sleeve, or a finger
Pixels = NDArray[np.uint8]
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Hands:
    """The surest hand of each of N pictures; zeros where none was found."""

    count_N: NDArray[np.int64]  # hands found
    presence_N: Floats  # how surely there is a hand, 0 to 1; also where none was found
    right_N: Floats  # the probability that it is a right hand as a mirror shows it, 0 to 1
    points_N42: Floats  # x and y of the 21 points, pixels of the picture
    world_N63: Floats  # x, y and z of them, metres, turned as in the picture

    @property
    def found_N(self) -> NDArray[np.bool_]:
        """Whether there is a hand."""
        return self.count_N > 0

    @property
    def values_ND(self) -> Floats:
        """All of it as rows of VALUES numbers."""
        first = np.stack([self.count_N, self.presence_N, self.right_N], 1).astype(np.float32)
        return np.concatenate([first, self.points_N42, self.world_N63], 1)

    @classmethod
    def of_values(cls, values_ND: Floats) -> Hands:
        """Undo :attr:`values_ND`."""
        count_N, presence_N, right_N = values_ND[:, :3].T
        points, world = values_ND[:, 3 : 3 + 2 * POINTS], values_ND[:, 3 + 2 * POINTS :]
        return cls(count_N.astype(np.int64), presence_N, right_N, points, world)


@dataclass(frozen=True)
class _Hand:
    presence: float
    right: float
    points_42: NDArray[np.float64]
    world_63: NDArray[np.float64]

    @property
    def box_4(self) -> Floats:
        points = self.points_42.reshape(POINTS, 2)
        return np.concatenate([points.min(0), points.max(0)]).astype(np.float32)

    @property
    def size(self) -> float:
        return float(np.ptp(self.points_42.reshape(POINTS, 2), axis=0).max())


def palms_in(
    pictures: Sequence[Pixels],
    margin: float,
    colours: Sequence[Any],
    networks: HandNetworks,
    least: float = palm_detection.LEAST_SCORE,
) -> list[list[Palm]]:
    """The palms of each picture, best first, at most MOST_PALMS."""
    pairs = zip(pictures, colours, strict=True)
    views = np.stack([palm_input(picture, margin, colour) for picture, colour in pairs])
    outputs = zip(*networks.palms(views), strict=True)
    return [palm_detection.palms_of(*output, least)[:MOST_PALMS] for output in outputs]


def hands_in_regions(
    pictures: Sequence[Pixels],
    regions: Sequence[Region],
    colours: Sequence[Any],
    networks: HandNetworks,
) -> list[_Hand]:
    """The hand that the landmark network sees in each region of the picture given with it."""
    found = []
    for start in range(0, len(regions), BATCH):
        some = slice(start, start + BATCH)
        each = list(zip(pictures[some], regions[some], colours[some], strict=True))
        outputs = networks.landmarks(np.stack([region_input(*one) for one in each]))
        for (_, region, _), points, world, presence, right in zip(each, *outputs, strict=True):
            found.append(
                _Hand(
                    float(presence),
                    float(right),
                    hand_region.points_in_picture(points.astype(np.float64), region),
                    hand_region.world_upright(world.astype(np.float64), region),
                )
            )
    return found


def distinct(hands: Sequence[_Hand]) -> list[_Hand]:
    """The hands with enough presence, without those that lie where an earlier one does, or are much
    smaller than the first.
    """
    kept: list[_Hand] = []
    for hand in hands:
        if hand.presence < LEAST_PRESENCE:
            continue
        boxes = np.stack([other.box_4 for other in kept]) if kept else np.zeros((0, 4), np.float32)
        is_new = not (palm_detection.part_inside(hand.box_4, boxes) > SAME_HAND).any()
        if is_new and (not kept or hand.size >= LEAST_SIZE * kept[0].size):
            kept.append(hand)
    return kept


@dataclass(frozen=True)
class _Pictures:
    """A few pictures, what was found in each, and the networks."""

    shown: Sequence[Pixels]
    networks: HandNetworks
    colours: list[Any]
    found: list[list[_Hand]]

    @classmethod
    def of(cls, shown: Sequence[Pixels], networks: HandNetworks) -> _Pictures:
        return cls(shown, networks, [border_colour(each) for each in shown], [[] for _ in shown])

    @property
    def without_hand(self) -> list[int]:
        return [i for i, hands in enumerate(self.found) if not distinct(hands)]

    def read(self, owners: Sequence[int], regions: Sequence[Region]) -> list[_Hand]:
        """The hand in each region of the picture with this index."""
        shown, colours = ([each[i] for i in owners] for each in (self.shown, self.colours))
        return hands_in_regions(shown, regions, colours, self.networks)

    def read_again(self, owners: Sequence[int], hands: Sequence[_Hand]) -> list[_Hand]:
        """The hands in the regions around their points; as they were where no hand is seen so."""
        again = self.read(owners, [hand_region.region_of_points(hand.points_42) for hand in hands])
        pairs = zip(hands, again, strict=True)
        return [new if new.presence >= LEAST_PRESENCE else old for old, new in pairs]

    def look_at_palms(self, owners: Sequence[int], margin: float, least: float) -> None:
        """Add the hands around the palms of these pictures."""
        if not owners:
            return
        some, colours = ([each[i] for i in owners] for each in (self.shown, self.colours))
        palms = palms_in(some, margin, colours, self.networks, least)
        each = [(i, palm) for i, of_one in zip(owners, palms, strict=True) for palm in of_one]
        frames = [square_with_margin(self.shown[i], margin) for i, _ in each]
        regions = [
            hand_region.region_of_palm(palm, *frame)
            for (_, palm), frame in zip(each, frames, strict=True)
        ]
        for (i, _), hand in zip(each, self.read([i for i, _ in each], regions), strict=True):
            self.found[i].append(hand)

    def look_at_whole(self, owners: Sequence[int]) -> None:
        """Add the hand that fills one of these pictures, if its points stay where they are."""
        sizes = [self.shown[i].shape[:2] for i in owners]
        regions = [Region(w / 2, h / 2, WHOLE * max(h, w), 0.0) for h, w in sizes]
        first = self.read(owners, regions)
        pairs = [(i, h) for i, h in zip(owners, first, strict=True) if h.presence >= LEAST_PRESENCE]
        likely, hands = [i for i, _ in pairs], [hand for _, hand in pairs]
        second = self.read_again(likely, hands)
        third = self.read_again(likely, second)
        for i, before, after in zip(likely, second, third, strict=True):
            if moved(before, after) <= STILL:
                self.found[i].append(after)

    def look_for_another(self, owners: Sequence[int]) -> None:
        """Add the second hand of these pictures, in which one was found: the palm detector, which
        prefers one palm to two small ones, looks again with the first hand painted over.
        """
        for start in range(0, len(owners), BATCH):
            some = owners[start : start + BATCH]
            painted = [
                painted_over(self.shown[i], distinct(self.found[i])[0].box_4, self.colours[i])
                for i in some
            ]
            rest = _Pictures.of(painted, self.networks)
            rest.look_at_palms(range(len(some)), 0.0, palm_detection.LEAST_SCORE)
            for i, hands in zip(some, rest.found, strict=True):
                self.found[i].extend(hands)

    def refine(self) -> list[list[_Hand]]:
        """What was found, the hands that count read again."""
        counted = [(i, hand) for i, hands in enumerate(self.found) for hand in distinct(hands)]
        owners = [i for i, _ in counted]
        again = self.read_again(owners, [hand for _, hand in counted])
        refined: list[list[_Hand]] = [[] for _ in self.shown]
        for i, hand in zip(owners, again, strict=True):
            refined[i].append(hand)
        return [new or old for old, new in zip(self.found, refined, strict=True)]


def moved(before: _Hand, after: _Hand) -> float:
    """Mean distance between the same hand's points read twice, as a share of its size."""
    differ = (after.points_42 - before.points_42).reshape(POINTS, 2)
    return float(np.linalg.norm(differ, axis=1).mean()) / max(1.0, before.size)


def hands_of_some(
    pictures: Sequence[Pixels], networks: HandNetworks, count: bool = False
) -> list[list[_Hand]]:
    """What was found in a few pictures; see :func:`distinct` for what counts. With ``count`` a
    second hand is looked for.
    """
    found = _Pictures.of(pictures, networks)
    found.look_at_palms(range(len(pictures)), MARGIN, palm_detection.LEAST_SCORE)
    found.look_at_whole(found.without_hand)
    found.look_at_palms(found.without_hand, WIDE_MARGIN, FAINT_PALM)
    if count:
        one = [i for i, hands in enumerate(found.found) if len(distinct(hands)) == 1]
        found.look_for_another(one)
    return found.refine()


def find_hands(pictures: Sequence[Pixels], threads: bool = True, count: bool = False) -> Hands:
    """The hands in pictures (H, W, 3) of any sizes, on all threads or on the caller's. With
    ``count`` a second hand is looked for in pictures with one, which takes as long as the first.

    Raises:
        UserError: the networks cannot be used.
    """
    networks = hand_networks.load_networks()

    def some(number: int) -> list[list[_Hand]]:
        return hands_of_some(pictures[number * BATCH : (number + 1) * BATCH], networks, count)

    return as_record([each for part in in_parts(len(pictures), some, threads) for each in part])


def in_parts(
    pictures: int, make: Callable[[int], list[list[_Hand]]], threads: bool
) -> Iterator[list[list[_Hand]]]:
    """``make`` of each batch's number, on all threads or on the caller's."""
    parts = -(-pictures // BATCH)
    return map_on_threads(parts, make) if threads else map(make, range(parts))


def hands_near(
    pictures: Sequence[Pixels],
    points: Sequence[NDArray[np.float64] | None],
    threads: bool = True,
) -> Hands:
    """The hand in each picture near the points where it should lie (42,), as in a film's next
    frame; the palm detector is asked only where none are given (None), or where they mislead.
    """
    networks = hand_networks.load_networks()

    def some(number: int) -> list[list[_Hand]]:
        part = slice(number * BATCH, (number + 1) * BATCH)
        found = _Pictures.of(pictures[part], networks)
        regions = {
            i: hand_region.region_of_points(each)
            for i, each in enumerate(points[part])
            if each is not None
        }
        for i, hand in zip(regions, found.read([*regions], [*regions.values()]), strict=True):
            found.found[i].append(hand)
        left = found.without_hand
        anew = hands_of_some([found.shown[i] for i in left], networks)
        for i, hands in zip(left, anew, strict=True):
            found.found[i].extend(hands)
        return found.found

    return as_record([each for part in in_parts(len(pictures), some, threads) for each in part])


def as_record(hands: Sequence[Sequence[_Hand]]) -> Hands:
    """Each picture's hands as one record."""
    n = len(hands)
    found = Hands(
        np.zeros(n, np.int64),
        np.zeros(n, np.float32),
        np.zeros(n, np.float32),
        np.zeros((n, 2 * POINTS), np.float32),
        np.zeros((n, 3 * POINTS), np.float32),
    )
    for i, candidates in enumerate(hands):
        kept = distinct(candidates)
        found.count_N[i] = len(kept)
        found.presence_N[i] = max((hand.presence for hand in candidates), default=0.0)
        if kept:
            found.right_N[i] = kept[0].right
            found.points_N42[i], found.world_N63[i] = kept[0].points_42, kept[0].world_63
    return found
