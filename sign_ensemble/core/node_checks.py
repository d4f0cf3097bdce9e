"""Checks before a search that every node has the package and can read the run's folder.

A worker would fail later, with a stack trace or without any message.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from sign_ensemble.core.config import Config
from sign_ensemble.core.errors import UserError
from sign_ensemble.core.run_folder import RunFolder, cache_of
from sign_ensemble.core.storage import StorageError, StoragePath, reason_of

ANSWER_SECONDS = 60  # the node starts a process first; without an answer it is not refused
VISIBLE_SECONDS = 5  # NFS may show a new file late


def check_nodes(config: Config, run: RunFolder) -> None:
    """Check every other node that can run trials.

    Raises:
        UserError: a node lacks the package or cannot read the run's folder or the cache.
    """
    import ray

    here = ray.get_runtime_context().get_node_id()
    others = {
        node["NodeID"]: node["NodeManagerAddress"]
        for node in ray.nodes()
        if node["Alive"] and node["NodeID"] != here and node["Resources"].get("CPU")
    }
    if not others:
        return
    folders: dict[str, StoragePath] = {
        "run.storage" if config.run.storage else "run.root": run.path
    }
    if config.data.cache:
        folders["data.cache"] = cache_of(config)
    with marker_files(folders) as marks:
        lacks = probe_nodes(others, marks)
    for address, lacking in lacks:
        for name, reason in lacking.items():
            raise UserError(missing_on_node(name, folders.get(name), address, reason))


def missing_on_node(name: str, where: StoragePath | None, address: str, reason: str) -> str:
    """The error message for what a node lacks, with a remedy: the path ``where`` of the setting
    ``name`` for this reason or, if it is None, the module called ``reason``.
    """
    if where is None:
        return (
            f"node {address} has no module {reason}: install this version of the package on every "
            "node, or submit it with `ray job submit --working-dir .`"
        )
    if isinstance(where, Path):
        other = "run.storage" if name == "run.root" else name
        return (
            f"{name} is {where}: node {address} cannot read it ({reason}); give a folder that all "
            f"nodes share, or an object store (--{other} s3://bucket/folder)"
        )
    reason += "; the node's environment counts"
    return f"{name} is {where}: node {address} cannot read it ({reason})"


@contextmanager
def marker_files(folders: Mapping[str, StoragePath]) -> Iterator[dict[str, str]]:
    """A file in each folder for the length of the block: setting → file, which holds its own name.

    Raises:
        UserError: a folder cannot be written.
    """
    files: dict[str, StoragePath] = {}
    try:
        for name, where in folders.items():
            files[name] = where / f".seen-{secrets.token_hex(8)}"
            try:
                where.mkdir(parents=True, exist_ok=True)
                files[name].write_text(files[name].name)
            except (OSError, StorageError) as fault:
                reason = fault.reason if isinstance(fault, StorageError) else reason_of(fault)
                raise UserError(f"{name} is {where}: it cannot be written ({reason})") from None
        yield {name: str(file) for name, file in files.items()}
    finally:
        for file in files.values():
            with suppress(OSError, StorageError):
                file.unlink(missing_ok=True)


def node_probe() -> Callable[[Mapping[str, str], float], dict[str, str]]:
    """The function that a node runs.

    Nested, so that Ray sends its code: a node without the package could not import it by name.
    """

    def look(marks: Mapping[str, str], seconds: float) -> dict[str, str]:
        """What this node lacks: setting → reason, or "" → missing module."""
        import time

        try:
            from sign_ensemble.core.storage import StorageError, reason_of, storage_path
        except ModuleNotFoundError as fault:
            return {"": str(fault.name)}
        lacking = {}
        for name, mark in marks.items():
            file = storage_path(mark)
            end = time.monotonic() + seconds
            while True:
                try:
                    seen = file.read_text() == file.name
                    reason = "" if seen else "another file is there"
                except StorageError as fault:
                    reason = fault.reason
                except OSError as fault:
                    reason = reason_of(fault)
                if not reason or time.monotonic() > end:
                    break
                time.sleep(0.2)
            if reason:
                lacking[name] = reason
        return lacking

    return look


def probe_nodes(
    nodes: Mapping[str, str], marks: Mapping[str, str]
) -> list[tuple[str, dict[str, str]]]:
    """What nodes (Ray's id → address) lack, by address; nodes lost in the meantime are left out."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    look: Any = ray.remote(num_cpus=0, max_retries=0)(node_probe())
    waiting = {
        look.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)).remote(
            marks, VISIBLE_SECONDS
        ): address
        for node, address in nodes.items()
    }
    ready, late = ray.wait(list(waiting), num_returns=len(waiting), timeout=ANSWER_SECONDS)
    for reference in late:
        ray.cancel(reference, force=True)
    answers = []
    for reference in ready:
        with suppress(ray.exceptions.RayError):
            answers.append((waiting[reference], ray.get(reference)))
    return answers
