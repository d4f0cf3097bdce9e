"""Seconds that each stage took, summed over the calls that completed it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from sign_ensemble.core.atomic_files import read_json, write_json
from sign_ensemble.core.run_folder import RunFolder


@contextmanager
def timed(run: RunFolder, stage: str) -> Iterator[None]:
    """Add the seconds of the block to the stage in timings.json."""
    began = time.monotonic()
    yield
    seconds = read_json(run.timings) if run.timings.is_file() else {}
    before = seconds.get(stage, 0.0)
    write_json(run.timings, {**seconds, stage: round(before + time.monotonic() - began, 1)})
