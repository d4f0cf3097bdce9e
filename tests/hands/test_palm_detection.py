"""Palms by hand: anchors, decoding, suppression of overlapping boxes, threshold.

Letters: A anchors.
"""

from __future__ import annotations

import numpy as np
import pytest

from sign_ensemble.hands.palm_detection import (
    ANCHORS,
    LEAST_SCORE,
    MIDDLE_KNUCKLE,
    SIDE,
    VALUES,
    WRIST,
    anchor_centres,
    decoded,
    overlap,
    palms_of,
    scores_of,
)

Box = tuple[float, float, float, float]
LEFT: Box = (0.1, 0.1, 0.5, 0.5)
MIDDLE: Box = (0.3, 0.1, 0.7, 0.5)  # shares a third of the union with either
RIGHT: Box = (0.5, 0.1, 0.9, 0.5)


def output(*palms: tuple[int, float, Box]) -> tuple[np.ndarray, np.ndarray]:
    """The detector's values (A, 18) and logits (A,) that give these palms: number of the anchor,
    score, and box; every point lies on the box's left top corner, the wrist on its right bottom.
    """
    values = np.zeros((ANCHORS, VALUES), np.float32)
    logits = np.full(ANCHORS, -20, np.float32)
    for anchor, score, box in palms:
        left, top, right, bottom = box
        centre = anchor_centres()[anchor]
        values[anchor, :2] = SIDE * (np.array([left + right, top + bottom]) / 2 - centre)
        values[anchor, 2:4] = SIDE * (right - left), SIDE * (bottom - top)
        points = np.tile([left, top], (7, 1))
        points[WRIST] = right, bottom
        values[anchor, 4:] = (SIDE * (points - centre)).ravel()
        logits[anchor] = np.log(score / (1 - score))
    return values, logits


# --- anchors and decoding -------------------------------------------------------------------------


def test_there_are_2016_anchors_row_by_row() -> None:
    centres = anchor_centres()
    assert centres.shape == (2016, 2) and ANCHORS == 2016
    # 24 x 24 cells of 8 pixels, two anchors each; the first rows go to the right
    expected = {
        0: (4, 4), 1: (4, 4), 2: (12, 4), 47: (188, 4), 48: (4, 12), 1151: (188, 188),
        # 12 x 12 cells of 16 pixels, six anchors each
        1152: (8, 8), 1157: (8, 8), 1158: (24, 8), 1224: (8, 24), 2015: (184, 184),
    }  # fmt: skip
    for number, pixels in expected.items():
        assert centres[number] * SIDE == pytest.approx(pixels), number


def test_anchors_are_shared_and_so_read_only() -> None:
    with pytest.raises(ValueError, match="read-only"):
        anchor_centres()[0] = 0


def test_a_box_and_its_points_are_pixels_from_the_anchor() -> None:
    anchors = np.array([[0.25, 0.5], [0.0, 0.0]], np.float32)
    values = np.zeros((2, VALUES), np.float32)
    values[0, :4] = 19.2, -9.6, 38.4, 76.8  # a tenth, a twentieth, a fifth, two fifths of 192
    values[0, 4:8] = 96, 0, -48, 19.2
    boxes, points = decoded(values, anchors)
    assert boxes[0] == pytest.approx([0.25, 0.25, 0.45, 0.65])
    assert points.shape == (2, 7, 2)
    assert points[0, 0] == pytest.approx([0.75, 0.5])
    assert points[0, 1] == pytest.approx([0.0, 0.6])
    assert points[0, 2:] == pytest.approx(np.tile([0.25, 0.5], (5, 1)))
    assert not boxes[1].any() and not points[1].any()


def test_a_palm_comes_from_its_own_anchor() -> None:
    for anchor in (0, 700, 1151, 1152, 2015):
        (palm,) = palms_of(*output((anchor, 0.75, LEFT)))
        assert palm.score == pytest.approx(0.75)
        assert palm.box == pytest.approx(LEFT, abs=1e-6)
        assert palm.points[WRIST] == pytest.approx([0.5, 0.5], abs=1e-6)
        assert palm.points[MIDDLE_KNUCKLE] == pytest.approx([0.1, 0.1], abs=1e-6)


# --- scores ---------------------------------------------------------------------------------------


def test_scores_are_logistic() -> None:
    logits = np.array([0, np.log(3), -np.log(3)], np.float32)
    assert scores_of(logits) == pytest.approx([0.5, 0.75, 0.25])


@pytest.mark.parametrize("limit", [87.0, 100.0, 1e4, 1e30])
def test_no_logit_overflows(limit: float) -> None:
    low, high = scores_of(np.array([-limit, limit], np.float32))  # a warning is an error
    assert 0 <= low < 1e-30 and high == 1


def test_a_palm_needs_half_a_score_and_no_more() -> None:
    just, below = np.zeros(ANCHORS, np.float32), np.full(ANCHORS, -0.001, np.float32)
    values, logits = output((300, 0.9, LEFT))
    logits[300] = just[0]
    assert LEAST_SCORE == 0.5
    assert [palm.score for palm in palms_of(values, logits)] == [0.5]
    assert palms_of(values, below) == []
    faint = output((300, 0.3, LEFT))
    assert palms_of(*faint) == []
    assert [palm.score for palm in palms_of(*faint, 0.2)] == pytest.approx([0.3])


# --- suppression ----------------------------------------------------------------------------------


def test_intersection_over_union() -> None:
    boxes = np.array([LEFT, MIDDLE, RIGHT, (0.2, 0.2, 0.4, 0.4), (0, 0, 1, 1)], np.float32)
    found = overlap(boxes[0], boxes)
    assert found == pytest.approx([1, 1 / 3, 0, 0.25, 0.16], abs=1e-6)
    empty = np.full(4, 0.3, np.float32)
    assert overlap(empty, empty[None]).tolist() == [0]


def test_two_boxes_that_overlap_are_one_palm_by_their_scores() -> None:
    first, second = (0.2, 0.2, 0.6, 0.6), (0.3, 0.2, 0.7, 0.6)
    (palm,) = palms_of(*output((40, 0.6, second), (1300, 0.9, first)))
    assert palm.score == pytest.approx(0.9)  # the best one's, and weights 0.9 / 1.5, 0.6 / 1.5
    assert palm.box == pytest.approx((0.24, 0.2, 0.64, 0.6), abs=1e-6)
    assert palm.points[WRIST] == pytest.approx([0.64, 0.6], abs=1e-6)
    assert palm.points[MIDDLE_KNUCKLE] == pytest.approx([0.24, 0.2], abs=1e-6)


def test_boxes_that_hardly_overlap_are_two_palms() -> None:
    inside = (0.2, 0.2, 0.4, 0.4)  # a quarter of LEFT
    palms = palms_of(*output((40, 0.7, LEFT), (1300, 0.9, inside)))
    assert [palm.score for palm in palms] == pytest.approx([0.9, 0.7])
    assert palms[0].box == pytest.approx(inside, abs=1e-6)
    assert palms[1].box == pytest.approx(LEFT, abs=1e-6)


def test_the_best_box_takes_its_neighbour_from_a_third() -> None:
    # MIDDLE overlaps both, LEFT and RIGHT do not overlap
    palms = palms_of(*output((10, 0.7, RIGHT), (20, 0.8, MIDDLE), (30, 0.9, LEFT)))
    assert [palm.score for palm in palms] == pytest.approx([0.9, 0.7])
    shift = 0.2 * 0.8 / 1.7
    assert palms[0].box == pytest.approx((0.1 + shift, 0.1, 0.5 + shift, 0.5), abs=1e-6)
    assert palms[1].box == pytest.approx(RIGHT, abs=1e-6)


def test_three_boxes_around_the_best_are_one_palm() -> None:
    (palm,) = palms_of(*output((10, 0.6, RIGHT), (20, 0.9, MIDDLE), (30, 0.75, LEFT)))
    left = (0.9 * 0.3 + 0.75 * 0.1 + 0.6 * 0.5) / 2.25
    assert palm.score == pytest.approx(0.9)
    assert palm.box == pytest.approx((left, 0.1, left + 0.4, 0.5), abs=1e-6)


def test_empty_boxes_end() -> None:
    empty = (0.3, 0.3, 0.3, 0.3)
    palms = palms_of(*output((10, 0.6, empty), (20, 0.9, empty)))
    assert [palm.score for palm in palms] == pytest.approx([0.9, 0.6])
