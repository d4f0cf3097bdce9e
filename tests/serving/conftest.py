"""Finished runs that all tests of this folder share: of rendered hands, and of drawn shapes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from filelock import FileLock
from hand_runs import HANDS, tuned, write_hands

from sign_ensemble.core.device import FLOAT32
from sign_ensemble.data import backbone

MadeOnce = Callable[[str, Callable[[Path], object]], Path]


@pytest.fixture(scope="session")
def hands_folder(hand_run: Path) -> Path:
    """The pictures that the run learnt from, SIGNER/LABEL/NUMBER.png; read only."""
    return hand_run.parent / "pictures"


@pytest.fixture(scope="session")
def made_once(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> MadeOnce:
    """Gives the run of a name; the first of several test processes makes it, in a folder that all
    of them share.
    """
    base = tmp_path_factory.getbasetemp()
    shared = base if worker_id == "master" else base.parent

    def run_of(name: str, make: Callable[[Path], object]) -> Path:
        home = shared / f"serving-{name}"
        home.mkdir(exist_ok=True)
        with FileLock(home / "lock"):
            run = home / name
            if not (run / "report.html").exists():
                make(home)
            return run

    return run_of


@pytest.fixture(scope="session")
def hand_run(made_once: MadeOnce) -> Path:
    """A run with a member of each kind, evaluated on signer-4; read only."""
    return made_once(
        "hands", lambda home: tuned(home, write_hands(home / "pictures"), "hands", *HANDS)
    )


@pytest.fixture(scope="session")
def drawn_run(signs_folder: Path, made_once: MadeOnce) -> Path:
    """A run without hands: members that read pixels, a hand-count detector; read only."""
    return made_once(
        "drawn", lambda home: tuned(home, signs_folder, "drawn", "--data.test_signers=[dan]")
    )


@pytest.fixture(scope="module")
def float32_products() -> Iterator[None]:
    """Torch multiplies float32, as on a machine without bf16 products."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(FLOAT32, "1")
        backbone.load.cache_clear()
        yield
    backbone.load.cache_clear()
