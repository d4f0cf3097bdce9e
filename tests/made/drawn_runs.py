"""Run folders made of random numbers, as a search and an evaluation would have left them.

Letters: N images, M members, K labels, C calibration images.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from sign_ensemble.core.atomic_files import write_json
from sign_ensemble.core.config import Config, SearchConfig
from sign_ensemble.core.run_folder import RunFolder, plain_dict
from sign_ensemble.pipeline.answer_rows import in_one_table, rows_of
from sign_ensemble.pipeline.metrics_tree import Bootstrap, OodSet, evaluate
from sign_ensemble.pipeline.report_details import details
from sign_ensemble.rejection import answers_table, rule_file
from sign_ensemble.rejection.class_gaussians import fit_class_gaussians
from sign_ensemble.rejection.ensemble import EnsembleOutput
from sign_ensemble.rejection.predictor import Answers, answer
from sign_ensemble.rejection.reference_set import DistanceModels
from sign_ensemble.rejection.regional_mahalanobis import fit_regional
from sign_ensemble.rejection.rule import Rule
from sign_ensemble.rejection.score_models import ScoreModels
from sign_ensemble.rejection.scores import all_scores, max_prob
from sign_ensemble.search.records import TrialRecord, write_table
from sign_ensemble.search.samplers import as_optuna
from sign_ensemble.search.space import distributions

LABELS = tuple("abcdefghijklmnopqrstuvwxyz")
MEMBERS = 5
FOLDS = ("ada", "ben", "cleo")
FOLDS = ("ada", "ben", "cleo")


def drawn_output(labels_N: np.ndarray, signal: float, rng: np.random.Generator) -> EnsembleOutput:
    """Members with shared and own noise around the true label's logit, which is ``signal``."""
    n = len(labels_N)
    truth_NK = signal * (np.arange(len(LABELS)) == labels_N[:, None])
    shared_NK = rng.normal(0, 2.5, (n, len(LABELS)))
    own_MNK = rng.normal(0, 1.5, (MEMBERS, n, len(LABELS)))
    logits_MNK = (truth_NK + shared_NK + own_MNK).astype(np.float32)
    knn_N = rng.gamma(4, 1, n) + 12 - signal
    regional_N = knn_N + rng.normal(0, 1, n)
    hand_count_N2 = rng.normal(-1, 0.1, (n, 2))
    votes_M = np.ones(MEMBERS)
    return EnsembleOutput(logits_MNK, votes_M, knn_N, regional_N, hand_count_N2=hand_count_N2)


def drawn_rule(rng: np.random.Generator) -> Rule:
    """Calibrated on images that are a little easier than those of a new signer."""
    easy = drawn_output(rng.integers(len(LABELS), size=600), 10.0, rng)
    return Rule(
        target_coverage=0.95,
        uncertainty_share=0.5,
        calibration=all_scores(easy),
        groups_C=rng.integers(3, size=600),
        single_C=max_prob(np.exp(easy.log_probs_MNK[0])),
        temperature=1.31,
    )


def drawn_models(rng: np.random.Generator) -> ScoreModels:
    """Fitted to 20 images of 2 labels."""
    labels_B = np.arange(20) % 2
    third = fit_class_gaussians(rng.random((20, 4)).astype(np.float16), labels_B)
    regional = fit_regional((rng.random((20, 18)).astype(np.float16),) * 2, labels_B)
    reference_BD = rng.random((10, 4)).astype(np.float16)
    return ScoreModels(DistanceModels(np.arange(2), third, regional), reference_BD, neighbours=5)


def drawn_trials(count: int, rng: np.random.Generator) -> list[TrialRecord]:
    """Trials of which every third is pruned after a fold, and the last one failed."""
    space = distributions(SearchConfig())
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    records = []
    for number in range(count):
        params = study.ask(space).params
        loss = 0.5 + abs(np.log10(params["learning_rate"]) + 3.7) + params["dropout"]
        pruned, failed = number % 3 == 2, number == count - 1
        folds = tuple(
            {
                "fold": i,
                "nll": loss + rng.normal(0, 0.02),
                "accuracy": 0.9 - 0.1 * loss,
                "ece": 0.05,
                "seconds": 1.5,
            }
            for i in range(0 if failed else 1 if pruned else len(FOLDS))
        )
        status: Any = "failed" if failed else "pruned" if pruned else "complete"
        records.append(TrialRecord(number, status, params, folds, "lost" if failed else ""))
    return records


def make_run(path: Path, trials: int, sizes: dict[str, tuple[str, int]], seed: int = 0) -> Path:
    """A run folder with everything a report reads.

    Args:
        path: The folder.
        trials: How many trials; 1 is a run of ``train``.
        sizes: Kind and number of images of each set; the first set is the known signs.
        seed: Seeds every draw.
    """
    rng = np.random.default_rng(seed)
    run = RunFolder(path)
    path.mkdir(parents=True)
    run.config.write_text(yaml.safe_dump(plain_dict(Config())))
    rule = drawn_rule(rng)
    rule_file.save(rule, drawn_models(rng), run.rule)
    records = drawn_trials(trials, rng) if trials > 1 else drawn_trials(4, rng)[:1]
    write_table(run, records, FOLDS)
    space = distributions(SearchConfig())
    storage = JournalStorage(JournalFileBackend(str(run.study)))
    study = optuna.create_study(storage=storage, study_name="run")
    study.add_trials([as_optuna(record, space) for record in records if record.folds])
    best = [record.number for record in records if record.status == "complete"][:MEMBERS]
    about = {"kind": "pixels", "votes": 1}
    members = [{"trial": best[i % len(best)], **about} for i in range(MEMBERS)]
    write_json(run.members / "index.json", {"members": members})
    rows = [
        {"path": "ada/a/broken.png", "split": "set-aside", "reason": "it is <empty> & cut"},
        {"path": "ada/a/1.png", "split": "train", "reason": ""},
    ]
    pq.write_table(pa.Table.from_pylist(rows), run.manifest)
    ood: dict[str, OodSet] = {}
    tables = []
    known: Answers | None = None
    labels_N = np.zeros(0, np.int64)
    signers: list[str] = []

    def pictures(chosen: list[int]) -> np.ndarray:
        smooth = rng.integers(0, 255, (len(chosen), 8, 8, 3), np.uint8)
        return smooth.repeat(28, 1).repeat(28, 2)

    for name, (kind, n) in sizes.items():
        names = [f"{name}/{i}.png" for i in range(n)]
        if kind == "known":
            labels_N = np.arange(n) % len(LABELS)
            signers = [("dan", "eve")[i % 2] for i in range(n)]
            known = answer(drawn_output(labels_N, 9.5, rng), rule)
            tables.append(
                rows_of(name, kind, known, names, LABELS, 0, pictures, (signers, labels_N))
            )
        else:
            labels = rng.integers(len(LABELS), size=n)
            answers = answer(drawn_output(labels, 6.5 if kind == "near" else 3.5, rng), rule)
            ood[name] = OodSet(kind, answers)
            tables.append(rows_of(name, kind, answers, names, LABELS, 0, pictures))
    assert known is not None
    bootstrap = Bootstrap(50, seed)
    tree = evaluate(known, labels_N, np.array(signers), ood, rule, 0, bootstrap)
    tree["details"] = details(known, labels_N, ood, rule, 0, LABELS, FOLDS, bootstrap)
    answers_table.write(in_one_table(tables), run.answers)
    tree["evaluations"] = 1
    tree["about"] = {
        "rule": rule.words(),
        "target_coverage": rule.target_coverage,
        "signers": "known",
        "members": MEMBERS,
        "labels": list(LABELS),
        "images": {"train": 5000, "test": len(labels_N)},
        "gaps": ["signer ada has no image of: q"],
        "notes": ["intervals: bootstrap over images"],
        "versions": {"sign_ensemble": "0"},
        "hardware": {"machine": "Linux", "cpus": 2},
        "set_aside": ["photos/x.jpg: cut"],
    }
    write_json(run.metrics, tree)
    write_json(run.timings, {"search": 12.5, "evaluation": 3.2})
    return path
