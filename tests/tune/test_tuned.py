"""A run with fine-tuned members, and another that must end as it did."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from shutil import copytree, ignore_patterns
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from small_runs import TUNED, assert_same_outcome, contents, settings
from started_commands import SLOW, Command, finish, killed, process_on, wait_for

from sign_ensemble.core.errors import UserError
from sign_ensemble.core.run_folder import RunFolder
from sign_ensemble.data.backbone import load
from sign_ensemble.learning.end_to_end import logits_and_features
from sign_ensemble.rejection import rule_file
from sign_ensemble.rejection.class_gaussians import label_distances, relative_distance
from sign_ensemble.rejection.gda_predictions import GdaPredictions
from sign_ensemble.rejection.predictor import load_predictor
from sign_ensemble.rejection.regional_mahalanobis import regional_distance

TUNED_TRIALS = 6


@pytest.fixture(scope="module")
def tuned(home: Path, signs_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with fine-tuned members that nothing interrupted."""
    folder = tmp_path_factory.mktemp("tuned")
    arguments = settings(home, signs_folder, "tuned", TUNED_TRIALS, *TUNED)
    command = Command("tune", *arguments, folder=folder)
    try:
        finish(command)
    finally:
        command.close()
    (home / "tuned-out.txt").write_text(command.out)
    return home / "tuned"


@pytest.mark.timeout(SLOW)
def test_fine_tuned_networks_are_the_members(tuned: Path) -> None:
    index = json.loads((tuned / "members/index.json").read_text())
    assert index["finetuned"] == "last"
    assert [entry["fold"] for entry in index["members"]] == [-1, -1]
    assert len({entry["sha256"] for entry in index["members"]}) == 2
    assert len(list(tuned.glob("fold_models/*"))) == 3  # a fold each
    shown = (tuned.parent / "tuned-out.txt").read_text()
    assert "fine-tuning: 5 networks, 12 passes over 72 images each; without a GPU" in shown
    for stage in ("heads", "finetuned"):
        gain = index["gains"][stage]
        assert f"{stage} on unseen signers: nll {gain['nll']:.4f}, accuracy" in shown
    figures = json.loads((tuned / "metrics.json").read_text())
    assert figures["about"]["members"] == 2
    assert any("50% of the images shown are no sign" in note for note in figures["about"]["notes"])
    rule = json.loads((tuned / "rule.json").read_text())
    assert rule["gda"] and rule["gda"]["of_members"]
    assert rule["member_gdas"] == 2
    assert rule["ood_prior"] == 0.5
    known = load_predictor(RunFolder(tuned)).rule.in_distribution
    assert known and 0 < known.probabilities[-1] < known.probabilities[0] < 1
    assert rule["ood_score"] == "regional_mahalanobis"
    assert rule["vetoes"] == ["knn_distance", "no_hand", "two_hands"]
    assert rule["uncertainty_share"] == 0.1


@pytest.mark.timeout(SLOW)
def test_each_members_gda_is_of_its_own_features(tuned: Path) -> None:
    predictor = load_predictor(RunFolder(tuned))
    members, models = predictor.ensemble.members, predictor.models
    images = np.random.default_rng(0).integers(0, 256, (3, 96, 96, 3), np.uint8)
    to_labels = []
    for member, gda in zip(members, models.member_gdas, strict=True):
        ((_, features_ND),) = logits_and_features(member, [images], predictor.data.weights)
        to_labels.append(gda.to_labels(features_ND, len(predictor.ensemble.labels)))
    assert np.abs(to_labels[0] - to_labels[1]).max() > 1e-3
    joined = replace(models.gda or GdaPredictions((5.0,), 1.0, of_members=True), weight=2.0)
    found = replace(predictor, models=replace(models, gda=joined)).output(images)
    assert found.gda_count == 2
    expected = -np.stack(to_labels) / 2 / joined.temperatures[0]
    assert found.logits_MNK[2:] == pytest.approx(expected, rel=1e-4)
    votes_M = predictor.ensemble.votes_M
    assert found.votes_M.tolist() == [*votes_M, *2 * votes_M]
    frozen = load(predictor.data.weights).of_images(images)
    fitted = models.distance_models
    whole_image_N = relative_distance(*label_distances(frozen.third_ND, fitted.third))
    layers = (frozen.third_ND, frozen.fourth_ND)
    regional_N = regional_distance(layers, fitted.regional, whole_image_N)
    assert found.regional_N == pytest.approx(regional_N)


@pytest.mark.timeout(SLOW)
def test_a_rule_of_other_members_is_refused(tuned: Path, tmp_path: Path) -> None:
    run = RunFolder(copytree(tuned, tmp_path / "run", ignore=ignore_patterns("ray", "train")))
    rule, models = rule_file.load(run.rule)
    rule_file.save(rule, replace(models, member_gdas=models.member_gdas[:1]), run.rule)
    with pytest.raises(UserError, match=r"it has the GDA of 1 members, and the run has 2"):
        load_predictor(run)


@pytest.mark.timeout(SLOW)
def test_fine_tuned_members_answer_images(
    tuned: Path, signs_folder: Path, tmp_path: Path, start: Callable[..., Command]
) -> None:
    """The rule's p-values in predict are those of evaluate: one path."""
    figures = json.loads((tuned / "metrics.json").read_text())
    out = tmp_path / "answers.parquet"
    held_out = pq.read_table(tuned / "manifest.parquet").to_pylist()
    rows = [row for row in held_out if row["split"] == "test"]
    images = [str(signs_folder / row["path"]) for row in rows]
    finish(start("predict", f"--run={tuned}", f"--out={out}", *images))
    answers = pq.read_table(out).to_pylist()
    right = [a["likeliest"] == row["label"] for a, row in zip(answers, rows, strict=True)]
    kept = [a["accepted"] for a in answers]
    assert np.mean(right) == pytest.approx(figures["known"]["accuracy"]["value"])
    assert np.mean(kept) == pytest.approx(figures["known"]["coverage"]["value"])


@pytest.mark.long
@pytest.mark.timeout(4 * SLOW)
def test_a_cluster_may_lose_a_trial_a_node_a_worker_and_the_driver(
    tuned: Path,
    signs_folder: Path,
    start: Callable[..., Command],
    three_nodes: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The first two in the search of heads, the others in fine-tuning."""
    run = tuned.parent / "cluster"
    arguments = settings(tuned.parent, signs_folder, "cluster", TUNED_TRIALS, *TUNED)
    monkeypatch.setenv("RAY_ADDRESS", three_nodes.address)
    busy: list[tuple[Any, int]] = []

    def ended() -> int:
        return len(list(run.glob("trials/*/trial.json")))

    def at_work(name: str) -> bool:
        """Whether a node has such a process now."""
        nodes = three_nodes.worker_nodes
        busy[:] = [(node, pid) for node in nodes if (pid := process_on(node, name))]
        return bool(busy)

    command = start("tune", *arguments)
    assert wait_for(lambda: ended() >= 1 and at_work("ray::ImplicitFunc"), SLOW), command.err
    os.kill(busy[0][1], signal.SIGKILL)
    killed_at = ended()
    assert wait_for(lambda: ended() > killed_at and at_work("ray::ImplicitFunc"), SLOW)
    assert ended() < TUNED_TRIALS
    three_nodes.remove_node(busy[0][0], allow_graceful=False)

    assert wait_for(lambda: any(run.glob("train/training-0/checkpoint_*")), SLOW), command.err
    assert ended() == TUNED_TRIALS
    assert at_work("ray::RayTrainWorker")
    ((_, lost),) = busy
    os.kill(lost, signal.SIGKILL)
    assert wait_for(lambda: at_work("ray::RayTrainWorker") and busy[0][1] != lost, SLOW)
    killed(command, lambda: (run / "fold_models/fold-model-00.safetensors").exists())
    before = contents(run)
    assert not (run / "members/index.json").exists()

    assert "complete after fold" not in finish(start("tune", *arguments))  # no trial again
    assert (
        contents(run)["fold_models/fold-model-00.safetensors"]
        == before["fold_models/fold-model-00.safetensors"]
    )
    assert_same_outcome(run, tuned)
