"""Files of a run as W&B artifacts: the manifest and trials that an ensemble was made of, and it.

W&B tells artifacts apart by name and content. So the evaluation names the manifest and its members'
trials by the same files as the trials' own runs have logged, and the lineage joins up by itself,
also when offline runs are synced later.
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

ARTIFACT_BYTES = 1_000_000_000  # more is a surprise on a free account's storage


def size_of(paths: Sequence[Path]) -> int:
    """Bytes of files and of all files below folders."""
    files = [file for path in paths for file in (path.rglob("*") if path.is_dir() else [path])]
    return sum(file.stat().st_size for file in files if file.is_file())


def here(run: RunFolder, place: StoragePath, name: str = "") -> Path:
    """The file or folder, or a lasting copy (called ``name``): an offline run is read when it is
    synced.
    """
    if isinstance(place, Path):
        return place
    kept = local_folder_for(run.path) / (name or place.name)
    with local_copy_of(place) as found:
        if found.is_dir():
            shutil.copytree(found, kept, dirs_exist_ok=True)
        else:
            shutil.copy(found, kept)
    return kept


def artifact(
    kind: str, name: str, paths: Mapping[str, Path], about: dict[str, Any] | None = None
) -> Artifact:
    """Files and folders by their names in it, under a name that W&B takes."""
    import wandb

    made = wandb.Artifact(re.sub(r"[^A-Za-z0-9._-]", "-", name)[:128], kind, metadata=about)
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
    path = here(run, record, f"trial-{number:04d}.json")
    return artifact("trial", f"trial-{number:04d}-{run.path.name}", {"trial.json": path})


def sources(run: RunFolder) -> list[Artifact]:
    """What the ensemble was made of: the manifest, and the trials of its members."""
    found = []
    if run.manifest.is_file():
        name = f"manifest-{run.path.name}"
        about = {"sha256": file_sha256(run.manifest)}
        path = here(run, run.manifest)
        found.append(artifact("manifest", name, {path.name: path}, about))
    index = run.members / "index.json"
    entries = read_json(index)["members"] if index.is_file() else []
    trials = [trial_artifact(run, number) for number in sorted({e["trial"] for e in entries})]
    return [*found, *[each for each in trials if each is not None]]


def use(wandb_run: Run, source: Artifact) -> None:
    """Name an artifact as what the run read.

    Run.use_artifact refuses offline runs, though their files have a mark for it (use_after_commit),
    which the upload heeds. Setting it is what use_artifact itself does with a new artifact, short
    of waiting for a server.
    """
    wandb_run._log_artifact(source, is_user_created=True, use_after_commit=True)


def ensemble(run: RunFolder, paths: Sequence[Path]) -> Artifact:
    """Members and rule, with the hash of the manifest that they were made from."""
    about = {"manifest_sha256": file_sha256(run.manifest)} if run.manifest.is_file() else {}
    inside = {path.name: path for path in paths}
    return artifact("ensemble", f"ensemble-{run.path.name}", inside, about)
