"""Which training of a Ray Train run is resumed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from sign_ensemble.core.config import MemberConfig
from sign_ensemble.learning.member import Card
from sign_ensemble.learning.train_worker import Job, remaining_jobs

CARD = Card(("a", "b"), MemberConfig(), 0, 0, -1, 1, 0.0, {}, "")
JOBS = [Job(replace(CARD, seed=seed), f"member-{seed}", "head") for seed in range(3)]


@pytest.mark.parametrize(
    ("header", "first"),
    [
        ({}, 0),
        ({"key": "of another run", "done": True}, 0),
        ({"key": JOBS[0].key, "done": False}, 0),
        ({"key": JOBS[0].key, "done": True}, 1),
        ({"key": JOBS[1].key, "done": False}, 1),
        ({"key": JOBS[1].key}, 1),
        ({"key": JOBS[2].key, "done": True}, 3),
    ],
)
def test_a_checkpoint_says_which_job_is_next(header: dict[str, Any], first: int) -> None:
    assert remaining_jobs(JOBS, header) == JOBS[first:]
