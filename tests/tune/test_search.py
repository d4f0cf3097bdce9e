"""A search as it begins, and as Ctrl-C ends it."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from small_runs import records, settings
from started_commands import CONTROL, SLOW, Command, finish, wait_for


def test_trials_begun_at_once_differ() -> None:
    """On many cores none has ended when the first ones are drawn."""
    from optuna.storages import InMemoryStorage

    from sign_ensemble.core.config import MemberConfig, SearchConfig
    from sign_ensemble.search.samplers import RecordedOptuna
    from sign_ensemble.search.space import default_params, distributions

    default = default_params(MemberConfig())
    search = RecordedOptuna(
        distributions(SearchConfig()), InMemoryStorage(), 0, default, [], set(), []
    )
    drawn = [search.suggest(f"t{i}") for i in range(12)]
    assert len({json.dumps(each["trial"]["params"]) for each in drawn if each}) == 12


@pytest.mark.timeout(2 * SLOW)
def test_interrupt_ends_the_search_in_one_line(
    home: Path, signs_folder: Path, start: Callable[..., Command]
) -> None:
    run = home / "interrupted"
    arguments = [*settings(home, signs_folder, "interrupted", 20), "--until", "search"]
    command = start("tune", *arguments)
    assert wait_for(lambda: any(run.glob("trials/*/trial.json")), SLOW), command.err
    os.killpg(command.process.pid, signal.SIGINT)  # as a terminal does for Ctrl-C
    assert command.ended() == 130, command.err
    assert command.err == "interrupted: finished work is kept; the same command continues\n"
    assert not CONTROL.search(command.out)
    kept = records(run)
    assert not (run / "trials.parquet").exists()
    shown = finish(start("tune", *arguments))
    assert f"{len(kept)} trials are kept from before" in shown
    assert sorted(records(run)) == list(range(20))


SWALLOWED = """
import contextlib, os, signal
from sign_ensemble.search.samplers import RecordedOptuna
drawn = RecordedOptuna.suggest
def suggest(self, trial_id):
    if len(self._used) == 2:  # Ctrl-C comes while a library catches everything
        with contextlib.suppress(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    return drawn(self, trial_id)
RecordedOptuna.suggest = suggest
"""


@pytest.mark.timeout(2 * SLOW)
def test_a_swallowed_interrupt_ends_the_search(
    home: Path, signs_folder: Path, start: Callable[..., Command]
) -> None:
    """Once seen: the interrupt came inside Optuna, which dropped it, and the search went on."""
    arguments = [*settings(home, signs_folder, "swallowed", 20), "--until", "search"]
    command = start("tune", *arguments, before=SWALLOWED)
    assert command.ended() == 130, command.err
    assert command.err == "interrupted: finished work is kept; the same command continues\n"
    assert len(records(home / "swallowed")) < 6


LOCKED = """
import os, signal
from tensorboardX.event_file_writer import EventFileWriter
close = EventFileWriter.close
closed = []
def close_late(self):
    if not closed:  # Ctrl-C comes between a lock's taking and whatever would give it back
        closed.append(self)
        self._event_queue._notempty.acquire()
        os.kill(os.getpid(), signal.SIGINT)
        self._event_queue._notempty.release()
    close(self)
EventFileWriter.close = close_late
"""


@pytest.mark.timeout(2 * SLOW)
def test_an_interrupt_leaves_no_lock_taken(
    home: Path, signs_folder: Path, start: Callable[..., Command]
) -> None:
    """Once seen: TensorBoard's writer was interrupted while it closed; at its end the process
    closed it again, and waited for a lock that nobody gave back.
    """
    arguments = [*settings(home, signs_folder, "locked", 20), "--until", "search"]
    command = start("tune", *arguments, before=LOCKED)
    code = command.process.wait(SLOW / 4)
    assert command.err == "interrupted: finished work is kept; the same command continues\n"
    assert (code, command.ended()) == (130, 130)
    assert len(records(home / "locked")) < 6
