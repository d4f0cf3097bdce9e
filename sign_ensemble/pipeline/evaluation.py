"""A finished ensemble to metrics.json; only here are test signers and OOD sets read."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from sign_ensemble import tracking
from sign_ensemble.core.atomic_files import read_json, write_json
from sign_ensemble.core.config import Config, DataConfig, EvaluateConfig
from sign_ensemble.core.console import progress, say
from sign_ensemble.core.errors import UserError
from sign_ensemble.core.printable_text import storable
from sign_ensemble.core.run_folder import RunFolder, load_config
from sign_ensemble.core.stage_timing import timed
from sign_ensemble.data import manifest
from sign_ensemble.data.far_ood import FAR_SETS, far_images, folder_images
from sign_ensemble.data.manifest import Manifest
from sign_ensemble.data.picture_files import named_pictures
from sign_ensemble.data.square_pictures import picture_side
from sign_ensemble.metrics.group_coverage import under_covered_groups
from sign_ensemble.pipeline.about import about
from sign_ensemble.pipeline.answer_rows import in_one_table, rows_of
from sign_ensemble.pipeline.condition_trial import Taken, condition_tree
from sign_ensemble.pipeline.metrics_tree import Bootstrap, OodSet, evaluate
from sign_ensemble.pipeline.preparation import read_images, training_folds
from sign_ensemble.pipeline.report_details import details
from sign_ensemble.rejection import answers_table
from sign_ensemble.rejection.ensemble import EnsembleOutput, concatenate_outputs
from sign_ensemble.rejection.predictor import Answers, Predictor, answer, load_predictor
from sign_ensemble.report.console_tables import show_metrics

AT_ONCE = 256  # images decoded at a time: 154 MB
NEAR = "wrong-gesture"


def answers_of_rows(
    rows: pa.Table, listed: Manifest, predictor: Predictor, config: Config, title: str
) -> Answers:
    """Answers to manifest rows, a few hundred images in memory at a time."""
    parts: list[EnsembleOutput] = []
    with progress(title) as step:
        for start in range(0, len(rows), AT_ONCE):
            some = rows.slice(start, AT_ONCE)
            images = read_images(some, listed.root, config.data)
            parts.append(predictor.output(images))
            step(start + len(some), len(rows))
    return answer(concatenate_outputs(parts), predictor.rule)


def check_sets(settings: EvaluateConfig, data: DataConfig) -> None:
    """Refuse sets that share a name or are not there; called before hours of work.

    Raises:
        UserError: says which.
    """
    names = [NEAR, *FAR_SETS, *settings.near, *settings.far]
    names += [set_of(label) for label in set(data.far_labels)]
    if twice := {name for name in names if names.count(name) > 1}:
        raise UserError(f"evaluate.near and evaluate.far: the name {min(twice)} is taken")
    for kind, sets in (("near", settings.near), ("far", settings.far)):
        for name, path in sets.items():
            try:
                named_pictures([path])
            except UserError as fault:
                raise UserError(f"evaluate.{kind} {name}: {fault}") from None


def set_of(label: str) -> str:
    """The name of the far set that a label's images are; ``blank`` is a built-in set's."""
    return f"label {label}" if label in (NEAR, *FAR_SETS) else label


def check_reading(run: RunFolder, settings: EvaluateConfig, more_trials: bool = False) -> None:
    """Refuse to read test signers once more unless that was asked for, where the ensemble that has
    read them was of fewer trials, or is about to be; called before hours of work.

    Raises:
        UserError: evaluate.again is not set.
    """
    last = run.metrics if run.metrics.exists() else run.earlier_metrics
    if not settings.again and last.exists() and (more_trials or last == run.earlier_metrics):
        raise UserError(
            f"{run.path}: an ensemble of fewer trials has read the test signers; "
            "--evaluate.again true reads them once more, --until ensemble does not read them"
        )


def ood_sets(
    listed: Manifest, predictor: Predictor, config: Config, settings: EvaluateConfig
) -> tuple[dict[str, OodSet], list[pa.Table], list[str]]:
    """The near set of the data first, then its far sets, the built-in ones and folders.

    Returns:
        The sets, their parts of answers.parquet, and a line for each file that was set aside.

    Raises:
        UserError: a folder has no usable image.
    """
    sets: dict[str, OodSet] = {}
    rows: list[pa.Table] = []
    set_aside: list[str] = []
    best, labels = best_member(predictor), predictor.ensemble.labels

    def add(name: str, kind: str, images: NDArray[np.uint8], called: Sequence[str]) -> None:
        with progress(name) as step:
            answers = predictor.answer(images, step)
        sets[name] = OodSet(kind, answers)
        rows.append(rows_of(name, kind, answers, called, labels, best, images.__getitem__))

    far = listed.rows("far")
    of_labels = [(NEAR, "near", listed.rows("near"))]
    for label in config.data.far_labels:
        of_labels.append((set_of(label), "far", far.filter(pc.equal(far["label"], label))))
    for name, kind, some in of_labels:
        if len(some):
            answers = answers_of_rows(some, listed, predictor, config, name)
            sets[name] = OodSet(kind, answers)
            pictures = partial(read_images, some, listed.root, config.data)
            paths = some.column("path").to_pylist()
            rows.append(rows_of(name, kind, answers, paths, labels, best, pictures))
    data, test = config.data, listed.rows("test")
    rng = np.random.default_rng(settings.seed)
    picked = np.sort(rng.permutation(len(test))[: settings.images]).tolist()
    signs = read_images(test, listed.root, data, picked)
    for name in FAR_SETS:
        images = far_images(name, settings.images, picture_side(data), settings.seed, signs)
        add(name, "far", images, [str(i) for i in range(len(images))])
    for kind, folders in (("near", settings.near), ("far", settings.far)):
        for name, path in folders.items():
            images, files, aside = folder_images(path, data)
            for line in aside:
                say(f"set aside: {line}")
            set_aside += aside
            add(name, kind, images, [storable(str(file)) for file in files])
    return sets, rows, set_aside


def evaluate_run(
    run: RunFolder, settings: EvaluateConfig, tracker: tracking.Tracker
) -> dict[str, Any]:
    """Evaluate a run whose members and rule are there, write metrics.json, show the summary.

    Raises:
        UserError: the run has not come that far, or images have changed or cannot be read.
    """
    evaluations = 0
    if run.metrics.exists():
        tree: dict[str, Any] = read_json(run.metrics)
        try:
            evaluations = tree["evaluations"]
            if not settings.again:
                say(f"{run.metrics} is there; test signers are read once (--evaluate.again true)")
                show_metrics(tree)
                if not run.report.exists():
                    report(run)
                return tree
        except (KeyError, TypeError) as fault:
            raise UserError(f"{run.metrics}: not an evaluation of this version ({fault})") from None
    elif run.earlier_metrics.exists():
        check_reading(run, settings)
        evaluations = read_json(run.earlier_metrics)["evaluations"]
    check_sets(settings, load_config(run).data)
    with timed(run, "evaluation"):
        tree = evaluated(run, settings, evaluations + 1)
    show_metrics(tree)
    say(f"metrics: {run.metrics}")
    report(run)
    tracker.evaluation(
        tree["about"], tree, [run.members, run.rule, run.rule.with_suffix(".safetensors")]
    )
    return tree


def evaluated(run: RunFolder, settings: EvaluateConfig, evaluations: int) -> dict[str, Any]:
    """Read the test signers and the OOD sets; write answers.parquet, then metrics.json."""
    config = load_config(run)
    listed = manifest.read(run.manifest)
    shown = set(listed.rows("test", "near", "far").column("path").to_pylist())
    if changed := [path for path in manifest.changed(listed) if path in shown]:
        raise UserError(
            f"{len(changed)} images to test on have changed since {run.path} began, first "
            f"{changed[0]}"
        )
    predictor = load_predictor(run)
    if predictor.ensemble.members[0].card.manifest != listed.sha256:
        raise UserError(f"{run.members}: its members were trained on another manifest")
    test = listed.rows("test")
    known = answers_of_rows(test, listed, predictor, config, "held-out signs")
    labels = list(predictor.ensemble.labels)
    labels_N = np.array([labels.index(name) for name in test.column("label").to_pylist()], np.int64)
    ood, ood_rows, set_aside = ood_sets(listed, predictor, config, settings)
    best, signers = best_member(predictor), test.column("signer").to_pylist()
    rule, bootstrap = predictor.rule, Bootstrap(settings.bootstrap, settings.seed)
    tree = evaluate(known, labels_N, np.array(signers), ood, rule, best, bootstrap)
    names = training_folds(config, listed)[2]
    tree["details"] = details(known, labels_N, ood, rule, best, labels, names, bootstrap)
    pictures = partial(read_images, test, listed.root, config.data)
    kind, paths = answers_table.KNOWN, test.column("path").to_pylist()
    truth = (signers, labels_N)
    known_rows = rows_of(kind, kind, known, paths, predictor.ensemble.labels, best, pictures, truth)
    answers_table.write(in_one_table([known_rows, *ood_rows]), run.answers)
    tree["evaluations"] = evaluations
    tree["about"] = {**about(config, settings, listed, predictor), "set_aside": set_aside}
    if run.hands.exists():
        tree["about"]["notes"].append(hands_in_words(read_json(run.hands), known))
    tree["about"]["notes"] += [
        group.words(kind)
        for kind, groups in (("signer", signers), ("label", test.column("label").to_pylist()))
        if any(groups)  # signers may not be known
        for group in under_covered_groups(known.accepted_N, np.array(groups), rule.target_coverage)
    ]
    if settings.condition_images and config.data.crop == "hand":
        tree["conditions"] = conditions_of(listed, predictor, config, settings, labels_N)
    run.report.unlink(missing_ok=True)  # of an earlier evaluation
    write_json(run.metrics, tree)
    return tree


def report(run: RunFolder) -> None:
    """Write report.html."""
    from sign_ensemble.report.write_report import write_report  # matplotlib: not at every start

    with progress("plots") as step:
        write_report([run], run.report, step)
    say(f"report: {run.report}")


def conditions_of(
    listed: Manifest,
    predictor: Predictor,
    config: Config,
    settings: EvaluateConfig,
    labels_N: NDArray[np.int64],
) -> dict[str, Any]:
    """Some test signs, and some wrong gestures (those of the first near set), taken under each
    condition.
    """

    def drawn(count: int) -> list[int]:
        order = np.random.default_rng(settings.seed).permutation(count)
        return [int(i) for i in np.sort(order[: settings.condition_images])]

    def some(rows: pa.Table) -> Taken:
        chosen = drawn(len(rows))
        keys = rows.column("sha256").take(chosen).to_pylist()
        return Taken.of(read_images(rows, listed.root, config.data, chosen), keys)

    near_rows, test, near = listed.rows("near"), listed.rows("test"), None
    if len(near_rows):
        near = some(near_rows)
    elif settings.near:
        images, files, _ = folder_images(next(iter(settings.near.values())), config.data)
        chosen = drawn(len(images))
        near = Taken.of(images[chosen], [files[i].name for i in chosen])
    labels = labels_N[drawn(len(test))]
    bootstrap = Bootstrap(settings.bootstrap, settings.seed)
    return condition_tree(predictor, some(test), labels, near, bootstrap)


def hands_in_words(training: dict[str, int], known: Answers) -> str:
    """How many hands were found and mirrored in training, and found in the test signs."""
    found, images = training["found"], training["images"]
    words = f"hands were found in {found} of {images} training images"
    if known.output.hands_N is not None:
        hands_N = known.output.hands_N
        words += f" and {int((hands_N > 0).sum())} of {len(hands_N)} test signs"
    return f"{words}; {training['mirrored']} training images of left hands are mirrored"


def best_member(predictor: Predictor) -> int:
    """The member that stands for a single model: of those that read pixels, which come first, the
    one whose trial had the lowest loss on training signers it had not seen.
    """
    members = predictor.ensemble.members
    losses = [member.card.nll for member in members if member.card.kind == "pixels"]
    return losses.index(min(losses)) if losses else 0
