"""Finished runs that all tests of this folder share: of rendered hands, and of drawn shapes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from filelock import FileLock
from hand_runs import HANDS, tuned, write_hands

from sign_ensemble.core.device import FLOAT32
from sign_ensemble.data import backbone


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


@pytest.fixture(scope="session")
def drawn_run(signs_folder: Path, tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """A run without hands: members that read pixels, a hand-count detector; read only."""
    base = tmp_path_factory.getbasetemp()
    home = (base if worker_id == "master" else base.parent) / "serving-drawn"
    home.mkdir(exist_ok=True)
    with FileLock(home / "lock"):
        run = home / "drawn"
        if not (run / "report.html").exists():
            tuned(home, signs_folder, "drawn", "--data.test_signers=[dan]")
        return run


@pytest.fixture(scope="module")
def float32_products() -> Iterator[None]:
    """Torch multiplies float32, as on a machine without bf16 products."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(FLOAT32, "1")
        backbone.load.cache_clear()
        yield
    backbone.load.cache_clear()
