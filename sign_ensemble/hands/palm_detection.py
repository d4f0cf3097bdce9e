"""From the palm detector's output to palms: anchors, decoding, weighted suppression.

The detector is MediaPipe's palm detection network (SSD) on a square picture of 192 pixels. Each
anchor gives a box and 7 key points, relative to the anchor's centre, and a logit. Coordinates here
are shares of the square, x to the right and y downwards.

Source: MediaPipe's graph palm_detection_cpu (Apache-2.0), read, not copied.

Letters: N images, A anchors.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

SIDE = 192  # pixels of the detector's input
STRIDES = {8: 2, 16: 6}  # pixels between cells → anchors of a cell (layers of one stride together)
ANCHORS = 2016
VALUES = 18  # of an anchor: centre, width and height of the box, 7 points
LOGIT_LIMIT = 100.0  # logits are clipped, lest their exponential overflow
LEAST_SCORE = 0.5  # of a palm
OVERLAP = 0.3  # intersection over union above which two boxes are of one palm
WRIST, MIDDLE_KNUCKLE = 0, 2  # among the 7 points
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Palm:
    """A palm in one picture, in shares of the detector's square."""

    score: float  # 0 to 1
    box: tuple[float, float, float, float]  # left, top, right, bottom
    points: Floats  # (7, 2): wrist, knuckles and thumb


@lru_cache(maxsize=1)
def anchor_centres() -> Floats:
    """Centres (2016, 2) of the anchors, row by row of each stride's cells; read-only."""
    centres = []
    for stride, each in STRIDES.items():
        across = SIDE // stride
        line = (np.arange(across, dtype=np.float32) + 0.5) / across
        x, y = np.meshgrid(line, line)
        centres.append(np.repeat(np.stack([x.ravel(), y.ravel()], 1), each, 0))
    found: Floats = np.concatenate(centres)
    found.flags.writeable = False
    return found


def scores_of(logits_NA: Floats) -> Floats:
    """1 / (1 + exp(−logit)), the logit clipped to ±100."""
    clipped = np.clip(logits_NA.astype(np.float64), -LOGIT_LIMIT, LOGIT_LIMIT)
    found: Floats = (1 / (1 + np.exp(-clipped))).astype(np.float32)
    return found


def decoded(values_A18: Floats, anchors_A2: Floats) -> tuple[Floats, Floats]:
    """Boxes (A, 4), left, top, right and bottom, and points (A, 7, 2) of some anchors.

    Centre and points are pixels from the anchor's centre, width and height are pixels.
    """
    centre = values_A18[:, :2] / SIDE + anchors_A2
    half = values_A18[:, 2:4] / (2 * SIDE)
    boxes: Floats = np.concatenate([centre - half, centre + half], 1).astype(np.float32)
    points = (values_A18[:, 4:].reshape(-1, 7, 2) / SIDE + anchors_A2[:, None]).astype(np.float32)
    return boxes, points


def areas_of(box_4: Floats, boxes_A4: Floats) -> tuple[Floats, float, Floats]:
    """Areas of a box's intersections with others (A,), of the box, and of the others (A,)."""
    low = np.maximum(box_4[:2], boxes_A4[:, :2])
    high = np.minimum(box_4[2:], boxes_A4[:, 2:])
    common = np.clip(high - low, 0, None).prod(1)
    area = float(np.clip(box_4[2:] - box_4[:2], 0, None).prod())
    return common, area, np.clip(boxes_A4[:, 2:] - boxes_A4[:, :2], 0, None).prod(1)


def overlap(box_4: Floats, boxes_A4: Floats) -> Floats:
    """Intersection over union of a box with others, (A,); 0 where both are empty."""
    common, area, areas = areas_of(box_4, boxes_A4)
    union = area + areas - common
    return np.divide(common, union, out=np.zeros_like(union), where=union > 0)


def part_inside(box_4: Floats, boxes_A4: Floats) -> Floats:
    """Intersection over the smaller area of a box and others, (A,): 1 if one lies in the other; 0
    where the smaller is empty.
    """
    common, area, areas = areas_of(box_4, boxes_A4)
    smaller = np.minimum(areas, np.float32(area))
    return np.divide(common, smaller, out=np.zeros_like(smaller), where=smaller > 0)


def palms_of(values_A18: Floats, logits_A: Floats, least: float = LEAST_SCORE) -> list[Palm]:
    """The palms of one picture, best first, by weighted non-maximum suppression.

    The best anchor left and those that overlap it by more than OVERLAP become one palm: box and
    points are their means weighted by score, the score is the best one's.
    """
    scores = scores_of(logits_A)
    chosen = np.flatnonzero(scores >= least)
    chosen = chosen[np.argsort(-scores[chosen], kind="stable")]
    boxes, points = decoded(values_A18[chosen], anchor_centres()[chosen])
    scores, found = scores[chosen], []
    while len(scores):
        same = overlap(boxes[0], boxes) > OVERLAP
        same[0] = True  # an empty box overlaps nothing, not even itself
        weights = scores[same] / scores[same].sum()
        left, top, right, bottom = (float(edge) for edge in weights @ boxes[same])
        mean_points = np.tensordot(weights, points[same], 1)
        found.append(Palm(float(scores[0]), (left, top, right, bottom), mean_points))
        scores, boxes, points = scores[~same], boxes[~same], points[~same]
    return found
