"""Runs small enough for a test, and what their folders hold."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any


def settings(home: Path, images: Path, name: str, trials: int, *more: str) -> list[str]:
    """A small run; ``more`` comes last and wins."""
    given = {
        "data.root": images,
        "data.cache": home / "features",
        "data.near_labels": "[wave]",
        "data.augmentations": 1,
        "data.size": 96,
        "data.crop": "none",  # the pictures show shapes and no hands
        "member.widths": "[16, 8]",
        "member.epochs": 2,
        "search.trials": trials,
        "search.concurrent": 1,
        "search.epochs": "[2, 3]",
        "search.h1": "[16, 32]",
        "search.h2": "[8, 16]",
        "ensemble.size": 2,
        "finetune.layers": "none",
        "rejection.hand_count_images": 10,
        "rejection.reference_images": 100,
        "evaluate.images": 10,
        "evaluate.bootstrap": 20,
        "run.root": home,
        "run.name": name,
        "wandb.mode": "disabled",
    }
    return [f"--{key}={value}" for key, value in given.items()] + list(more)


TUNED = (
    "--finetune.layers=last", "--finetune.epochs=12", "--finetune.batch_size=8",
    "--scale.cpus_per_worker=1",  # as many threads whichever nodes are lost: the same bits
    "--rejection.held_out_groups=1", "--data.labels=[bar,cross,disc,triangle]",
)  # fmt: skip


def records(run: Path) -> dict[int, dict[str, Any]]:
    """The records of ended trials by number."""
    found = [json.loads(path.read_text()) for path in run.glob("trials/*/trial.json")]
    return {record["number"]: record for record in found}


def without_seconds(record: dict[str, Any]) -> dict[str, Any]:
    """A record but for how long it took."""
    folds = [{k: v for k, v in fold.items() if k != "seconds"} for fold in record["folds"]]
    return {**record, "folds": folds}


def contents(run: Path) -> dict[str, tuple[str, int]]:
    """sha256 and time of change of every file of a run but W&B's, Ray's and its lock."""
    return {
        str(path.relative_to(run)): (
            hashlib.sha256(path.read_bytes()).hexdigest(),
            path.stat().st_mtime_ns,
        )
        for path in sorted(run.rglob("*"))
        if path.is_file() and path.relative_to(run).parts[0] not in ("wandb", "ray", ".lock")
    }


def shas(run: Path, *patterns: str) -> dict[str, str]:
    """sha256 of the files that match."""
    return {
        str(path.relative_to(run)): hashlib.sha256(path.read_bytes()).hexdigest()
        for pattern in patterns
        for path in run.glob(pattern)
    }


def assert_kept(run: Path, before: dict[str, tuple[str, int]]) -> None:
    """No ended trial was lost, changed or written again."""
    now = contents(run)
    for name, content in before.items():
        if name != "timings.json":  # grows with every call that prepares images
            assert now[name] == content, name


def assert_same_outcome(run: Path, undisturbed: Path) -> None:
    """Trials, members, rule and figures are those of the undisturbed run."""
    expected = {n: without_seconds(record) for n, record in records(undisturbed).items()}
    assert {n: without_seconds(record) for n, record in records(run).items()} == expected
    same = ("members/*", "rule.*", "trials/*/*.safetensors", "hand_count.safetensors")
    here, there = shas(run, *same), shas(undisturbed, *same)
    for name in set(here) | set(there):
        if "fold-" not in name:  # their headers hold seconds
            assert here.get(name) == there.get(name), name
    assert set(here) == set(there)
    figures, expected_figures = (
        json.loads((r / "metrics.json").read_text()) for r in (run, undisturbed)
    )
    assert figures == expected_figures
