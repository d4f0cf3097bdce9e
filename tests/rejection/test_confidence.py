"""Confidence, by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from sign_ensemble.rejection.confidence import confidence
from sign_ensemble.rejection.p_in_distribution import InDistribution

EXACT: dict[str, Any] = {"rel": 1e-12}


def test_confidence_is_p_in_distribution_times_the_tempered_probability() -> None:
    probs, statistic = np.array([[0.8, 0.2], [0.2, 0.8]]), np.array([0.0, 2.0])
    assert confidence(probs, statistic, 1.0, None) == pytest.approx([0.8, 0.8], **EXACT)
    # at temperature 2 square roots: 2 to 1
    assert confidence(probs, statistic, 2.0, None) == pytest.approx([2 / 3, 2 / 3], **EXACT)
    known = InDistribution(0.5, np.array([0.0, 4.0]), np.array([0.9, 0.1]))
    assert confidence(probs, statistic, 2.0, known) == pytest.approx([0.6, 1 / 3], **EXACT)
