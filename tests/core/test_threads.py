"""Pieces on threads: in order, a few ahead, and nothing is left running."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from sign_ensemble.core.threads import AHEAD, map_on_threads, slices_on_threads, thread_count


@pytest.fixture(autouse=True)
def three_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


def threads_of_a_new_one() -> int:
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(torch.get_num_threads).result()


def test_results_come_in_order_however_long_each_takes() -> None:
    def slow(number: int) -> int:
        time.sleep(0.02 * (3 - number % 3))
        return number

    assert list(map_on_threads(10, slow)) == list(range(10))
    assert list(map_on_threads(0, slow)) == []


@pytest.mark.parametrize(("pieces", "share"), [(1, 3), (2, 1), (3, 1), (9, 1)])
def test_threads_are_shared_among_pieces(pieces: int, share: int) -> None:
    found = list(map_on_threads(pieces, lambda _: torch.get_num_threads()))
    assert found == [share] * pieces
    assert torch.get_num_threads() == threads_of_a_new_one() == 3


def test_the_number_computed_at_once_is_limited() -> None:
    """Whatever the number of cores, since each needs memory."""
    found = list(map_on_threads(4, lambda _: torch.get_num_threads(), most=1))
    assert found == [3] * 4


def test_all_threads_compute_at_once() -> None:
    together = threading.Barrier(3, timeout=20)
    assert len(list(map_on_threads(6, lambda _: together.wait()))) == 6


def test_only_a_few_are_computed_ahead() -> None:
    begun: list[int] = []
    parts = map_on_threads(100, begun.append)
    next(parts)
    time.sleep(0.1)  # anything else would have started by now
    assert len(begun) == AHEAD * 3
    parts.close()
    assert len(begun) == AHEAD * 3
    assert threads_of_a_new_one() == 3


def test_an_exception_comes_in_order_and_cancels_the_rest() -> None:
    before, begun = set(threading.enumerate()), list[int]()

    def fails(number: int) -> int:
        begun.append(number)
        if number == 4:
            raise OSError("gone")
        return number

    taken: list[int] = []
    with pytest.raises(OSError, match="gone"):
        taken.extend(map_on_threads(100, fails))
    assert len(begun) <= 4 + AHEAD * 3
    assert set(threading.enumerate()) <= before
    assert torch.get_num_threads() == threads_of_a_new_one() == 3


@pytest.mark.parametrize("cores", [1, 2, 3, 5])
@pytest.mark.parametrize("images", [0, 1, 4, 7])
def test_slices_cover_every_image_once(images: int, cores: int) -> None:
    torch.set_num_threads(cores)
    counts = np.zeros(images, int)

    def count(part: slice) -> None:
        counts[part] += 1

    slices_on_threads(images, count)
    assert counts.tolist() == [1] * images


def test_where_torch_is_not_loaded_the_cores_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "torch")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3, 4}, raising=False)
    assert thread_count() == 5
    assert list(map_on_threads(7, lambda number: number)) == list(range(7))
    monkeypatch.delattr(os, "sched_getaffinity")
    assert thread_count() == (os.cpu_count() or 1)
