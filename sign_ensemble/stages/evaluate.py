"""A finished ensemble to metrics.json; only here are test signers and strange sets read."""

from __future__ import annotations

import platform
from importlib.metadata import version
from typing import Any

import numpy as np
import pyarrow as pa

from sign_ensemble import __version__, tracking
from sign_ensemble.config import Config, EvaluateConfig
from sign_ensemble.console import progress, say, show_metrics
from sign_ensemble.data import manifest
from sign_ensemble.data.manifest import Manifest
from sign_ensemble.data.strange import FAR_SETS, far_images, folder_images, image_files
from sign_ensemble.errors import UserError
from sign_ensemble.run import RunFolder, load_config, read_json, write_json
from sign_ensemble.stages.prepare import squares
from sign_ensemble.uncertainty.answers import Answers, Reader, answer, load_reader
from sign_ensemble.uncertainty.ensemble import Evidence, joined
from sign_ensemble.uncertainty.evaluation import StrangeSet, evaluate
from sign_ensemble.uncertainty.rejection import resolution

AT_ONCE = 512  # images decoded at a time: 77 MB
NEAR = "wrong-gesture"


def answers_of_rows(
    rows: pa.Table, listed: Manifest, reader: Reader, config: Config, title: str
) -> Answers:
    """Answers to manifest rows, a few hundred images in memory at a time."""
    parts: list[Evidence] = []
    with progress(title) as step:
        for start in range(0, len(rows), AT_ONCE):
            some = rows.slice(start, AT_ONCE)
            images = squares(some, listed.root, config.data)
            parts.append(reader.evidence(images))
            step(start + len(some), len(rows))
    return answer(joined(parts), reader.rule)


def check_sets(settings: EvaluateConfig) -> None:
    """Refuse sets that share a name or are not there; asked before hours of work.

    Raises:
        UserError: says which.
    """
    names = [NEAR, *FAR_SETS, *settings.near, *settings.far]
    if twice := {name for name in names if names.count(name) > 1}:
        raise UserError(f"evaluate.near and evaluate.far: the name {min(twice)} is taken")
    for kind, sets in (("near", settings.near), ("far", settings.far)):
        for name, path in sets.items():
            try:
                image_files(path)
            except UserError as fault:
                raise UserError(f"evaluate.{kind} {name}: {fault}") from None


def strange_sets(
    listed: Manifest, reader: Reader, config: Config, settings: EvaluateConfig
) -> dict[str, StrangeSet]:
    """Near sets first, then built-in and folder far sets.

    Raises:
        UserError: a folder has no usable image.
    """
    sets: dict[str, StrangeSet] = {}
    near = listed.rows("near")
    if len(near):
        sets[NEAR] = StrangeSet("near", answers_of_rows(near, listed, reader, config, NEAR))
    folders = [(name, path, "near") for name, path in settings.near.items()]
    folders += [(name, path, "far") for name, path in settings.far.items()]
    test = listed.rows("test")
    rng = np.random.default_rng(settings.seed)
    picked = np.sort(rng.permutation(len(test))[: settings.images]).tolist()
    signs = squares(test, listed.root, config.data, picked)
    for name in FAR_SETS:
        images = far_images(name, settings.images, config.data.size, settings.seed, signs)
        with progress(name) as step:
            sets[name] = StrangeSet("far", reader.answer(images, step))
    data = config.data
    for name, path, kind in folders:
        images, _, aside = folder_images(
            path, size=data.size, fit=data.fit, max_pixels=data.max_pixels, min_side=data.min_side
        )
        for file, reason in aside:
            say(f"set aside: {file}: {reason}")
        with progress(name) as step:
            sets[name] = StrangeSet(kind, reader.answer(images, step))
    return sets


def about(
    config: Config, settings: EvaluateConfig, listed: Manifest, reader: Reader
) -> dict[str, Any]:
    """What the figures rest on, beside the images."""
    rule = reader.rule
    notes = [
        "intervals: bootstrap over images; they do not say how another signer would fare",
        f"self-made negatives that the rule was chosen on: {', '.join(rule.choice['negatives'])}",
    ]
    if config.data.signers == "known":
        notes.append(
            f"the rule was calibrated on {len(np.unique(rule.groups_C))} groups of signers: of a "
            f"whole new signer it speaks with a resolution of {resolution(rule.groups_C):.2f}"
        )
    if config.data.signers == "none":
        notes.append(
            "no signers are known: test images are a random share, so people are the same in "
            "training and test, and the figures say nothing about new people"
        )
    return {
        "combination": rule.choice["chosen"],
        "keep": rule.keep,
        "members": len(reader.ensemble.members),
        "labels": list(reader.ensemble.labels),
        "images": listed.counts(),
        "gaps": manifest.gaps(listed),
        "evaluate": {"images": settings.images, "seed": settings.seed},
        "notes": notes,
        "versions": {
            "sign_ensemble": __version__,
            "python": platform.python_version(),
            **{name: version(name) for name in ("torch", "ray", "optuna", "numpy")},
        },
    }


def evaluate_run(
    run: RunFolder, settings: EvaluateConfig, tracker: tracking.Tracker
) -> dict[str, Any]:
    """Evaluate a run whose members and rule are there, write metrics.json, show the summary.

    Raises:
        UserError: the run has not come that far, or images have changed or cannot be read.
    """
    readings = 0
    if run.metrics.exists():
        tree: dict[str, Any] = read_json(run.metrics)
        try:
            readings = tree["readings"]
            if not settings.again:
                say(f"{run.metrics} is there; test signers are read once (--evaluate.again true)")
                show_metrics(tree)
                return tree
        except (KeyError, TypeError) as fault:
            raise UserError(f"{run.metrics}: not an evaluation of this version ({fault})") from None
    config = load_config(run)
    check_sets(settings)
    listed = manifest.read(run.manifest)
    shown = set(listed.rows("test", "near").column("path").to_pylist())
    if changed := [path for path in manifest.changed(listed) if path in shown]:
        raise UserError(
            f"{len(changed)} images to test on have changed since {run.path} began, first "
            f"{changed[0]}"
        )
    reader = load_reader(run)
    if reader.ensemble.members[0].card.manifest != listed.sha256:
        raise UserError(f"{run.members}: its members were trained on another manifest")
    test = listed.rows("test")
    known = answers_of_rows(test, listed, reader, config, "held-out signs")
    labels = list(reader.ensemble.labels)
    labels_N = np.array([labels.index(name) for name in test.column("label").to_pylist()], np.int64)
    strange = strange_sets(listed, reader, config, settings)
    tree = evaluate(
        known,
        labels_N,
        np.array(test.column("signer").to_pylist()),
        strange,
        reader.rule,
        best_member(reader),
        settings.bootstrap,
        settings.seed,
    )
    tree["readings"] = readings + 1
    tree["about"] = about(config, settings, listed, reader)
    write_json(run.metrics, tree)
    show_metrics(tree)
    say(f"metrics: {run.metrics}")
    tracker.evaluation(
        tree["about"], tree, [run.members, run.rule, run.rule.with_suffix(".safetensors")]
    )
    return tree


def best_member(reader: Reader) -> int:
    """The member whose trial had the lowest loss on training signers it had not seen."""
    losses = [member.card.nll for member in reader.ensemble.members]
    return losses.index(min(losses))
