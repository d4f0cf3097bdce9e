"""Small pictures are rendered on one thread."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def _traced_by_one_thread(one_thread: None) -> None:
    del one_thread
