"""Guards: witnesses that count only what lies beyond every calibration image.

Letters: N images, C calibration images.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

TAIL = 0.9  # scores above this quantile show how fast a witness's tail falls
HANDS = ("no_hand", "two_hands")  # the witnesses that are guards wherever there are any
Floats = NDArray[np.float64]
Joined = Literal["smallest", "fisher", "guarded"]


def vetoes_of(witnesses: Sequence[str], joined: Joined) -> tuple[str, ...]:
    """The witnesses that count only beyond all calibration images: the last, and HANDS wherever
    they are named; none unless witnesses are joined so.
    """
    if joined != "guarded":
        return ()
    return tuple(name for name in witnesses if name in (*HANDS, witnesses[-1]))


def tail_excess(calibration_C: Floats) -> float:
    """β: mean excess of the calibration scores over their 90 % quantile; above 0 in any case."""
    start = np.quantile(calibration_C, TAIL)
    excess = calibration_C[calibration_C > start] - start
    spread = max(float(np.ptp(calibration_C)), 1e-9)
    return max(float(excess.mean()) if len(excess) else 0.0, 1e-3 * spread)


def beyond(scores_N: Floats, calibration_C: Floats) -> Floats:
    """How far beyond every calibration image: max(0, s − c_max) / β, in nats of the tail of
    :func:`~sign_ensemble.rejection.rule.surprise`.

    What a guard goes by. It is silent on whatever is no stranger than the strangest calibration
    image, and so never speaks for ranks among ordinary signs.
    """
    if not np.isfinite(scores_N).all():
        raise ValueError("beyond: scores must be finite")
    return np.maximum(scores_N - calibration_C.max(), 0.0) / tail_excess(calibration_C)


def loo_beyond(calibration_C: Floats) -> Floats:
    """:func:`beyond` of each calibration image among the *others*: above 0 for a single highest."""
    found = np.zeros(len(calibration_C))
    knots, times = np.unique(calibration_C, return_counts=True)
    if len(knots) > 1 and times[-1] == 1:
        found[calibration_C.argmax()] = (knots[-1] - knots[-2]) / tail_excess(calibration_C)
    return found


def veto_excess(name: str, scores_N: Floats, calibration_C: Floats) -> Floats:
    """How far outside the calibration images' scores a guard finds an image, in nats; 0 inside.

    :func:`beyond`; of HANDS with log(C + 1), the surprise of what no calibration image is as
    strange as, to begin with. (On four built-in people, each a stranger, the worst part and guards
    let .48 of two hands pass without that and .07 with it, keeping .954 and .951 of signs. FAR
    would keep .943.)
    """
    return starting_at_log_n(name, beyond(scores_N, calibration_C), len(calibration_C) + 1)


def loo_veto_excess(name: str, calibration_C: Floats) -> Floats:
    """:func:`veto_excess` of each calibration image among the *others*."""
    return starting_at_log_n(name, loo_beyond(calibration_C), len(calibration_C))


def starting_at_log_n(name: str, beyond_N: Floats, images: int) -> Floats:
    """With log(images) to begin with where that is so."""
    return np.where(beyond_N > 0, np.log(images) + beyond_N, 0.0) if name in HANDS else beyond_N
