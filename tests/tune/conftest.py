"""The main job as a user runs it: what its tests share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from started_commands import SOURCE, Command, cluster_of_a_head


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the runs and of their shared features."""
    return tmp_path_factory.mktemp("tune")


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Command]]:
    """Starts commands; none of them outlives the test."""
    begun: list[Command] = []

    def starter(name: str, *arguments: str, before: str = "") -> Command:
        folder = tmp_path / f"command-{len(begun)}"
        folder.mkdir()
        begun.append(Command(name, *arguments, folder=folder, before=before))
        return begun[-1]

    yield starter
    for command in begun:
        command.close()


@pytest.fixture
def three_nodes(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A cluster of a head that runs no trials and two nodes of one CPU each."""
    monkeypatch.setenv("PYTHONPATH", str(SOURCE))  # the package, as if installed on every node
    cluster = cluster_of_a_head()
    try:
        for _ in range(2):
            cluster.add_node(num_cpus=1)
        yield cluster
    finally:
        cluster.shutdown()
