"""A step that repeats does not pay for its memory again and again."""

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
    reason="large pages are given to all here or to none, whether they are asked for or not",
)
def test_a_step_that_repeats_finds_its_memory_again() -> None:
    """Without being told, 64 MiB that were freed and are asked for again fault 4 KiB by 4 KiB."""
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


def test_what_the_environment_says_of_memory_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THP_MEM_ALLOC_ENABLE", "0")
    spare_page_faults()
    assert os.environ["THP_MEM_ALLOC_ENABLE"] == "0"


COLLECTIONS = """
import atexit, gc
from sign_ensemble.core.process_memory import end_without_collections, modules_stay

def say(what):
    print(what, gc.isenabled(), gc.get_freeze_count() > 1000)

atexit.register(say, "last")
end_without_collections()
atexit.register(gc.unfreeze)
say("before")
with modules_stay():
    import unittest.mock
    say("within")
say("after")
"""


def test_garbage_is_not_looked_for_among_modules() -> None:
    ran = subprocess.run([sys.executable, "-c", COLLECTIONS], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.splitlines() == [
        "before True False", "within False False", "after True True", "last True True",
    ]  # fmt: skip


def plain_environment() -> dict[str, str]:
    """Without what earlier tests of this process or the user have set."""
    said = ("THP_MEM_ALLOC_ENABLE", "MALLOC_TRIM_THRESHOLD_")
    return {k: v for k, v in os.environ.items() if k not in said}
