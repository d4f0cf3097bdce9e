"""Files of a run as W&B artifacts: its manifest, its trials and its ensemble.

W&B identifies artifacts by name and content. The evaluation names the same manifest and trial
files as the trials' own runs, so the lineage joins up, also when offline runs are synced later.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sign_ensemble.core.atomic_files import file_sha256, local_copy_of, read_json
from sign_ensemble.core.run_folder import RunFolder
from sign_ensemble.core.storage import StoragePath, local_folder_for

if TYPE_CHECKING:
    from wandb import Artifact, Run

MAX_BYTES = 1_000_000_000  # a free account's storage is small


def size_of(paths: Sequence[Path]) -> int:
    """Bytes of files and of all files below folders."""
    files = [file for path in paths for file in (path.rglob("*") if path.is_dir() else [path])]
    return sum(file.stat().st_size for file in files if file.is_file())


def local_path(run: RunFolder, path: StoragePath, name: str = "") -> Path:
    """The path, or of one on an object store a lasting copy called ``name``.

    The copy lasts because an offline run's files are read when it is synced.
    """
    if isinstance(path, Path):
        return path
    kept = local_folder_for(run.path) / (name or path.name)
    with local_copy_of(path) as copied:
        if copied.is_dir():
            shutil.copytree(copied, kept, dirs_exist_ok=True)
        else:
            shutil.copy(copied, kept)
    return kept


def artifact(
    kind: str, name: str, paths: Mapping[str, Path], metadata: dict[str, Any] | None = None
) -> Artifact:
    """An artifact of files and folders by their names in it; ``name`` is made one W&B accepts."""
    import wandb

    made = wandb.Artifact(re.sub(r"[^A-Za-z0-9._-]", "-", name)[:128], kind, metadata=metadata)
    for inside, path in paths.items():
        # Immutable: taken from the run folder itself, not copied to the home folder first.
        add = made.add_dir if path.is_dir() else made.add_file
        add(str(path), name=inside, policy="immutable", skip_cache=True)
    return made


def trial_artifact(run: RunFolder, number: int) -> Artifact | None:
    """A trial's record; None if there is no such file."""
    record = run.trial(number) / "trial.json"
    if not record.is_file():
        return None
    path = local_path(run, record, f"trial-{number:04d}.json")
    return artifact("trial", f"trial-{number:04d}-{run.path.name}", {"trial.json": path})


def sources(run: RunFolder) -> list[Artifact]:
    """The manifest and the members' trials, as far as their files exist."""
    found = []
    if run.manifest.is_file():
        path = local_path(run, run.manifest)
        about = {"sha256": file_sha256(run.manifest)}
        found.append(artifact("manifest", f"manifest-{run.path.name}", {path.name: path}, about))
    index = run.index
    entries = read_json(index)["members"] if index.is_file() else []
    trials = [trial_artifact(run, number) for number in sorted({e["trial"] for e in entries})]
    return [*found, *filter(None, trials)]


def ensemble(run: RunFolder, paths: Sequence[Path]) -> Artifact:
    """Members and rule, with the sha256 of the manifest that they were made from."""
    about = {"manifest_sha256": file_sha256(run.manifest)} if run.manifest.is_file() else {}
    return artifact("ensemble", f"ensemble-{run.path.name}", {p.name: p for p in paths}, about)


def use(wandb_run: Run, source: Artifact) -> None:
    """Mark an artifact as an input of the run.

    Run.use_artifact refuses offline runs, though their files have a mark for it (use_after_commit)
    which the upload heeds. use_artifact itself sets it for a new artifact, then waits for a server.
    """
    wandb_run._log_artifact(source, is_user_created=True, use_after_commit=True)
