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

from sign_ensemble.core.atomic_files import read_arrays, write_arrays
from sign_ensemble.core.errors import UserError
from sign_ensemble.core.run_folder import RunFolder
from sign_ensemble.data.backbone import load
from sign_ensemble.learning.end_to_end import logits_and_features
from sign_ensemble.pipeline.fold_models import read_out_of_fold
from sign_ensemble.rejection import rule_file
from sign_ensemble.rejection.candidates import USUAL_FINETUNED
from sign_ensemble.rejection.class_gaussians import relative_distance
from sign_ensemble.rejection.gda_predictions import GdaPredictions
from sign_ensemble.rejection.member_gda import gda_distances
from sign_ensemble.rejection.norms import Norms
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
    assert len(list(tuned.glob("judges/*"))) == 3  # a fold each
    said = (tuned.parent / "tuned-out.txt").read_text()
    assert "fine-tuning: 5 networks, 12 passes over 72 images each; without a GPU" in said
    for stage in ("heads", "finetuned"):
        gain = index["gains"][stage]
        assert f"{stage} on signers they never saw: nll {gain['nll']:.4f}, accuracy" in said
    figures = json.loads((tuned / "metrics.json").read_text())
    assert figures["about"]["members"] == 2
    assert any("a share of 0.5 of the images shown" in note for note in figures["about"]["notes"])
    rule = json.loads((tuned / "rule.json").read_text())
    assert rule["own"] == 2
    assert rule["readings"] is None or rule["readings"]["own"]
    both = f"{USUAL_FINETUNED.name}, and total_uncertainty by itself"
    assert rule["ood_prior"] == 0.5  # distances without some labels ask no network
    belief = load_predictor(RunFolder(tuned)).rule.belief
    assert belief and 0 < belief.sign_B[-1] < belief.sign_B[0] < 1
    assert (rule["choice"]["chosen"], rule["unsure"]) == (both, 0.5)
    assert "of fine-tuned members" in rule["choice"]["by"]
    assert not list(tuned.glob("left-out/*"))  # heads without some labels say nothing of these


@pytest.mark.timeout(SLOW)
def test_each_members_clouds_are_of_what_it_sees(tuned: Path) -> None:
    reader = load_predictor(RunFolder(tuned))
    images = np.random.default_rng(0).integers(0, 256, (3, 96, 96, 3), np.uint8)
    seen = []
    for member, own in zip(reader.ensemble.members, reader.rule.own, strict=True):
        ((_, features_ND),) = logits_and_features(member, [images], reader.weights)
        seen.append(gda_distances(features_ND, own, len(reader.ensemble.labels)))
    distances = [each.to_labels_NK for each in seen]
    assert np.abs(distances[0] - distances[1]).max() > 1e-3
    readings = replace(reader.rule.readings or GdaPredictions((5.0,), 1.0, own=True), weight=2.0)
    found = replace(reader, rule=replace(reader.rule, readings=readings)).evidence(images)
    assert found.clouds == 2
    expected = -np.stack(distances) / 2 / readings.temperatures[0]
    assert found.logits_MNK[2:] == pytest.approx(expected, rel=1e-4)
    assert found.votes_M.tolist() == [*reader.ensemble.votes_M, *2 * reader.ensemble.votes_M]
    assert found.own_N == pytest.approx((seen[0].cloud_N + seen[1].cloud_N) / 2, rel=1e-6)
    assert "own_mahalanobis" in reader.rule.calibration
    frozen = load(reader.weights).of_images(images)
    whole_N = relative_distance(frozen.third_ND, reader.rule.clouds)
    assert found.cloud_N == pytest.approx(whole_N)
    parts_N = regional_distance((frozen.third_ND, frozen.fourth_ND), reader.rule.parts, whole_N)
    assert found.part_N == pytest.approx(parts_N)
    assert found.norm_N == pytest.approx(Norms.of(reader.rule.bank).of_images(frozen.fifth_ND))


@pytest.mark.timeout(SLOW)
def test_a_rule_of_other_members_is_refused(tuned: Path, tmp_path: Path) -> None:
    run = RunFolder(copytree(tuned, tmp_path / "run", ignore=ignore_patterns("ray", "train")))
    rule = rule_file.load(run.rule)
    rule_file.save(replace(rule, own=rule.own[:1]), run.rule)
    with pytest.raises(UserError, match=r"it has clouds of 1 members, and the run has 2"):
        load_predictor(run)
    before = {k: v for k, v in rule.calibration.items() if k != "own_mahalanobis"}
    rule_file.save(replace(rule, calibration=before), run.rule)
    with pytest.raises(UserError, match=r"of an earlier version; run tune anew"):
        load_predictor(run)


@pytest.mark.timeout(SLOW)
def test_what_an_earlier_version_asked_judges_is_refused(tuned: Path, tmp_path: Path) -> None:
    run = RunFolder(copytree(tuned, tmp_path / "run", ignore=ignore_patterns("ray", "train")))
    arrays, _ = read_arrays(run.unseen)
    write_arrays(run.unseen, {k: v for k, v in arrays.items() if "logits" in k})
    with pytest.raises(UserError, match=r"of an earlier version; remove .* and tune"):
        read_out_of_fold(run)


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
    kept = [a["answer"] != "rejected" for a in answers]
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

    assert wait_for(lambda: any(run.glob("train/lane-0/checkpoint_*")), SLOW), command.err
    assert ended() == TUNED_TRIALS
    assert at_work("ray::RayTrainWorker")
    ((_, lost),) = busy
    os.kill(lost, signal.SIGKILL)
    assert wait_for(lambda: at_work("ray::RayTrainWorker") and busy[0][1] != lost, SLOW)
    killed(command, lambda: (run / "judges/judge-00.safetensors").exists())
    before = contents(run)
    assert not (run / "members/index.json").exists()

    assert "complete after fold" not in finish(start("tune", *arguments))  # no trial again
    assert contents(run)["judges/judge-00.safetensors"] == before["judges/judge-00.safetensors"]
    assert_same_outcome(run, tuned)
