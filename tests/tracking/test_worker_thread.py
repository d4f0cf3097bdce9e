"""A thread that does tasks in order."""

from __future__ import annotations

import threading
from functools import partial

import pytest

from sign_ensemble.tracking.worker_thread import WorkerThread

LONG = 60.0  # never waited for where all is well


def unexpected(fault: BaseException) -> None:
    raise fault


def test_tasks_are_done_in_order_by_one_other_thread() -> None:
    done: list[tuple[int, int | None]] = []

    def note(number: int) -> None:
        done.append((number, threading.current_thread().ident))

    worker = WorkerThread(unexpected)
    for i in range(100):
        worker.do(partial(note, i))
    worker.end()
    assert worker.has_ended(LONG)
    assert [number for number, _ in done] == list(range(100))
    (thread,) = {thread for _, thread in done}
    assert thread != threading.current_thread().ident


def test_the_caller_goes_on_meanwhile() -> None:
    awake, done = threading.Event(), list[str]()
    worker = WorkerThread(unexpected)
    worker.do(lambda: done.append(f"first {awake.wait(LONG)}"))
    worker.do(lambda: done.append("second"))
    worker.end()
    assert done == [] and not worker.has_ended(0)
    awake.set()
    assert worker.has_ended(LONG)
    assert done == ["first True", "second"]


@pytest.mark.parametrize("fault", [RuntimeError("broken"), SystemExit(3)])
def test_a_fault_is_faults_and_the_next_piece_follows(fault: BaseException) -> None:
    faults: list[BaseException] = []
    done: list[int] = []

    def broken() -> None:
        raise fault

    worker = WorkerThread(faults.append)
    worker.do(broken)
    worker.do(lambda: done.append(1))
    worker.end()
    assert worker.has_ended(LONG)
    assert (faults, done) == ([fault], [1])


def test_what_has_not_begun_can_be_dropped() -> None:
    begun, awake, done = threading.Event(), threading.Event(), list[int]()

    def first() -> None:
        begun.set()
        awake.wait(LONG)
        done.append(1)

    worker = WorkerThread(unexpected)
    for work in (first, lambda: done.append(2), lambda: done.append(3)):
        worker.do(work)
    assert begun.wait(LONG)
    assert worker.drop() == 3, "the first is half done"
    awake.set()
    assert worker.has_ended(LONG)
    assert done == [1]


def test_without_work_there_is_no_thread() -> None:
    before = threading.active_count()
    worker = WorkerThread(unexpected)
    assert threading.active_count() == before
    worker.end()
    assert worker.has_ended(0)
