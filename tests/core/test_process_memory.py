"""Freed memory is reused, and loaded modules are not garbage collected."""

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from sign_ensemble.core.process_memory import spare_page_faults

FAULTS = """
import resource, sys
import torch
from sign_ensemble.core.process_memory import spare_page_faults

if sys.argv[1] == "spared":
    spare_page_faults()
for mib in (16, 64):
    for turn in range(40):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        torch.ones(mib << 20, dtype=torch.uint8)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
LARGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")


@pytest.mark.skipif(
    not LARGE_PAGES.exists() or "[madvise]" not in LARGE_PAGES.read_text(),
    reason="this kernel gives large pages to all or to none, whatever a program requests",
)
def test_a_repeated_step_reuses_its_memory() -> None:
    """By default 64 MiB that are freed and allocated again fault 4 KiB by 4 KiB."""
    pages = (64 << 20) // resource.getpagesize()
    found = {}
    for how in ("plain", "spared"):
        command = [sys.executable, "-c", FAULTS, how]
        ran = subprocess.run(command, capture_output=True, text=True, env=plain_environment())
        assert ran.returncode == 0, ran.stderr
        found[how] = [int(line) for line in ran.stdout.split()]
    assert found["plain"][1] > 0.9 * pages
    assert found["spared"][0] < 16
    assert found["spared"][1] < 0.1 * pages


def test_the_environment_takes_precedence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THP_MEM_ALLOC_ENABLE", "0")
    spare_page_faults()
    assert os.environ["THP_MEM_ALLOC_ENABLE"] == "0"


COLLECTIONS = """
import atexit, gc
from sign_ensemble.core.process_memory import imports_without_gc

def show(when):
    print(when, gc.isenabled(), gc.get_freeze_count() > 1000)

atexit.register(show, "exit")
show("before")
with imports_without_gc():
    import unittest.mock
    show("within")
show("after")
gc.unfreeze()
"""


def test_loaded_modules_are_not_garbage_collected() -> None:
    ran = subprocess.run([sys.executable, "-c", COLLECTIONS], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.splitlines() == [
        "before True False", "within False False", "after True True", "exit True True",
    ]  # fmt: skip


def plain_environment() -> dict[str, str]:
    """Without what earlier tests of this process or the user have set."""
    names = ("THP_MEM_ALLOC_ENABLE", "MALLOC_TRIM_THRESHOLD_")
    return {k: v for k, v in os.environ.items() if k not in names}
