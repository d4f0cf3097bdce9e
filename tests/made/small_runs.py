"""Runs small enough for a test, and what their folders hold."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file


def settings(home: Path, images: Path, name: str, trials: int, *more: str) -> list[str]:
    """A small run; ``more`` comes last and wins."""
    given = {
        "data.root": images,
        "data.cache": home / "features",
        "data.near_labels": "[wave]",
        "data.views": 1,
        "data.size": 96,
        "member.widths": "[16, 8]",
        "member.epochs": 2,
        "search.trials": trials,
        "search.concurrent": 1,
        "search.epochs": "[2, 3]",
        "search.h1": "[16, 32]",
        "search.h2": "[8, 16]",
        "ensemble.size": 2,
        "rejection.negatives": 10,
        "rejection.bank": 100,
        "evaluate.images": 10,
        "evaluate.bootstrap": 20,
        "run.root": home,
        "run.name": name,
        "wandb.mode": "disabled",
    }
    return [f"--{key}={value}" for key, value in given.items()] + list(more)


TUNED = (
    "--finetune.layers=last", "--finetune.epochs=12", "--finetune.batch_size=8",
    "--rejection.left_out=0", "--data.labels=[bar,cross,disc,triangle]",
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
    """sha256 and time of change of every file of a run but W&B's and Ray's."""
    return {
        str(path.relative_to(run)): (
            hashlib.sha256(path.read_bytes()).hexdigest(),
            path.stat().st_mtime_ns,
        )
        for path in sorted(run.rglob("*"))
        if path.is_file() and path.relative_to(run).parts[0] not in ("wandb", "ray")
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


def without_hashes(index: Path) -> dict[str, Any]:
    """An index of members but for their files' hashes."""
    tree: dict[str, Any] = json.loads(index.read_text())
    members = [{k: v for k, v in each.items() if k != "sha256"} for each in tree["members"]]
    return {**tree, "members": members}


def assert_close(ours: Any, theirs: Any, apart: float) -> None:
    """Trees of JSON that differ in no more than numbers, and these by as little."""
    if isinstance(ours, dict):
        assert set(ours) == set(theirs)
        for key, value in ours.items():
            assert_close(value, theirs[key], apart)
    elif isinstance(ours, list):
        assert len(ours) == len(theirs)
        for one, other in zip(ours, theirs, strict=True):
            assert_close(one, other, apart)
    elif isinstance(ours, float) and isinstance(theirs, float):
        assert abs(ours - theirs) <= apart
    else:
        assert ours == theirs


def assert_same_outcome(run: Path, whole: Path, apart: float = 0.0) -> None:
    """Trials, members, rule and figures are those of the run that nothing interrupted.

    Weights may lie ``apart``: networks trained on another number of threads sum in another order.
    """
    expected = {n: without_seconds(record) for n, record in records(whole).items()}
    assert {n: without_seconds(record) for n, record in records(run).items()} == expected
    same = ("members/*", "rule.*", "trials/*/*.safetensors", "negatives.safetensors")
    here, there = shas(run, *same), shas(whole, *same)
    assert set(here) == set(there)
    for name in here:
        if "fold-" in name:  # their headers hold seconds
            continue
        if not apart:
            assert here[name] == there[name], name
        elif name.startswith("members/member-"):
            ours, theirs = load_file(run / name), load_file(whole / name)
            assert set(ours) == set(theirs)
            for key, values in ours.items():
                np.testing.assert_allclose(values, theirs[key], rtol=0, atol=apart, err_msg=name)
        elif name == "members/index.json":
            ours, theirs = (without_hashes(r / name) for r in (run, whole))
            assert ours == theirs
        else:
            assert here[name] == there[name], name
    figures, expected_figures = (json.loads((r / "metrics.json").read_text()) for r in (run, whole))
    assert_close(figures, expected_figures, apart)
