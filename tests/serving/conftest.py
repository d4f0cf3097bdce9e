"""One finished run on rendered hands, which all tests of this folder share."""

from __future__ import annotations

from pathlib import Path

import pytest
from filelock import FileLock
from hand_runs import HANDS, tuned, write_hands


@pytest.fixture(scope="session")
def hands_folder(hand_run: Path) -> Path:
    """The pictures that the run learnt from, SIGNER/LABEL/NUMBER.png; read only."""
    return hand_run.parent / "pictures"


@pytest.fixture(scope="session")
def hand_run(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """A run with a member of each kind, evaluated on signer-4; read only. The first of several
    test processes makes it.
    """
    base = tmp_path_factory.getbasetemp()
    home = (base if worker_id == "master" else base.parent) / "serving"
    home.mkdir(exist_ok=True)
    with FileLock(home / "lock"):
        run = home / "hands"
        if not (run / "report.html").exists():
            tuned(home, write_hands(home / "pictures"), "hands", *HANDS)
        return run
