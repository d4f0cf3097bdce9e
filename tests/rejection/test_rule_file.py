"""A rule and its score models: saved and loaded to the bit; damaged and changed files."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sign_ensemble.core.errors import UserError
from sign_ensemble.data.backbone import OF_LANDMARKS, TIPS_FOURTH, TIPS_THIRD, HandFeatures
from sign_ensemble.rejection import rule_file
from sign_ensemble.rejection.class_gaussians import fit_class_gaussians
from sign_ensemble.rejection.gda_predictions import GdaPredictions
from sign_ensemble.rejection.hand_count import HandCountDetector
from sign_ensemble.rejection.joint_distance import JointScales, Scale
from sign_ensemble.rejection.kind_distances import fit_kind_gaussians
from sign_ensemble.rejection.member_gda import MemberGda
from sign_ensemble.rejection.p_in_distribution import InDistribution
from sign_ensemble.rejection.reference_set import DistanceModels
from sign_ensemble.rejection.regional_mahalanobis import fit_regional
from sign_ensemble.rejection.rule import Rule
from sign_ensemble.rejection.score_models import ScoreModels
from sign_ensemble.rejection.selective_risk_control import RiskControl

LABELS_B = np.array([0, 0, 1])


def f(*values: float) -> np.ndarray:
    return np.array(values, np.float64)


def rule(**changed: Any) -> Rule:
    """Four calibration images of two signers."""
    values: dict[str, Any] = {
        "target_coverage": 0.1 + 0.2,
        "uncertainty_share": 0.3,
        "calibration": {
            "regional_mahalanobis": f(1, 2, 3, 4),
            "knn_distance": f(0.4, 0.3, 0.2, 0.1),
            "total_uncertainty": f(0.1, 0.4, 0.2, 1 / 3),
        },
        "groups_C": np.array([0, 0, 0, 1]),
        "single_C": f(0.1, 0.2, 0.3, 1 / 3),
        "temperature": 1.3,
    }
    return Rule(**{**values, **changed})


def models() -> ScoreModels:
    """Fitted to three images."""
    return ScoreModels(
        distance_models=DistanceModels(
            labels_L=np.array([0, 1]),
            third=fit_class_gaussians(np.eye(3, dtype=np.float16), LABELS_B),
            regional=fit_regional((np.eye(9, dtype=np.float16)[:3],) * 2, LABELS_B),
            fifth=fit_class_gaussians(np.eye(4, dtype=np.float16)[:3], LABELS_B),
            hand_count=HandCountDetector(
                np.full((2, 7), 0.1, np.float32), np.ones((2, 7), np.float32)
            ),
        ),
        reference_BD=np.random.default_rng(0).normal(size=(3, 7)).astype(np.float16),
        neighbours=5,
        gda=GdaPredictions((1.5, 0.1 + 0.2), 0.5),
    )


def saved(path: Path, **changed: Any) -> Path:
    """A rule and its models as files in this folder."""
    rule_file.save(rule(**changed), models(), path / "rule.json")
    return path / "rule.json"


def assert_same_arrays(before: Any, after: Any) -> None:
    assert before.keys() == after.keys()
    for name, old in before.items():
        new = after[name]
        assert (new.dtype, new.shape, new.tobytes()) == (old.dtype, old.shape, old.tobytes()), name


def test_a_rule_comes_back_to_the_bit(tmp_path: Path) -> None:
    before, after = rule(), rule_file.load(saved(tmp_path))[0]
    for field in fields(Rule):
        old, new = getattr(before, field.name), getattr(after, field.name)
        if isinstance(old, np.ndarray):
            assert_same_arrays({field.name: old}, {field.name: new})
        elif isinstance(old, dict):
            assert_same_arrays(old, new)
        else:
            assert (new, type(new)) == (old, type(old)), field.name


def test_score_models_come_back_to_the_bit(tmp_path: Path) -> None:
    before, after = models(), rule_file.load(saved(tmp_path))[1]
    assert (after.neighbours, after.gda, after.member_gdas) == (5, before.gda, ())
    arrays = rule_file.arrays_of(rule(), before)
    assert len(rule_file.part(arrays, "regional")) == 2 * 9 * 6
    assert {len(rule_file.part(arrays, name)) for name in ("third", "fifth")} == {6}
    assert len(rule_file.part(arrays, "hand_count")) == 2
    assert_same_arrays(arrays, rule_file.arrays_of(rule(), after))


def test_models_without_optional_parts_come_back(tmp_path: Path) -> None:
    fewer = replace(
        models(),
        distance_models=replace(models().distance_models, fifth=None, hand_count=None),
        gda=None,
    )
    rule_file.save(rule(), fewer, tmp_path / "rule.json")
    after_rule, after = rule_file.load(tmp_path / "rule.json")
    assert after.distance_models.fifth is after.distance_models.hand_count is after.gda is None
    assert after_rule.in_distribution is after_rule.risk_control is None
    assert after.scales is after.distance_models.kinds is after_rule.copies_C is None


def test_the_gda_of_members_comes_back_in_order(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    member_gdas = tuple(
        MemberGda(
            np.array(labels),
            fit_class_gaussians(rng.random((4, 5)).astype(np.float16), np.array(of)),
        )
        for labels, of in (([0, 1], [0, 0, 1, 1]), ([2], [2, 2, 2, 2]))
    )
    gda = GdaPredictions((3.5,), 4.0, of_members=True)
    before = replace(models(), gda=gda, member_gdas=member_gdas)
    rule_file.save(rule(), before, tmp_path / "rule.json")
    after = rule_file.load(tmp_path / "rule.json")[1]
    assert after.gda == gda
    assert len(after.member_gdas) == 2
    for old, new in zip(member_gdas, after.member_gdas, strict=True):
        assert_same_arrays(old.arrays(), new.arrays())
    assert after.member_gdas[1].labels_L.tolist() == [2]


def test_what_hands_add_comes_back_to_the_bit(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    count = TIPS_THIRD + TIPS_FOURTH + OF_LANDMARKS + 1
    hands = HandFeatures(rng.uniform(1, 2, (6, count)).astype(np.float16))
    kinds = fit_kind_gaussians(hands, np.arange(6) % 2)
    assert kinds
    scales = JointScales(*(Scale(-i / 3, 4.0 + i) for i in range(5)))
    of_distances = replace(models().distance_models, kinds=kinds)
    before = replace(models(), distance_models=of_distances, scales=scales)
    copies_C = np.array([False, True, False, True])
    hand_scores = {"joint_distance": f(1, 2, 3, 4), "several_hands": f(0, 0, 0, 0)}
    calibrated = rule(copies_C=copies_C, calibration={**rule().calibration, **hand_scores})
    rule_file.save(calibrated, before, tmp_path / "rule.json")
    after_rule, after = rule_file.load(tmp_path / "rule.json")
    assert after.scales == scales
    assert after.distance_models.kinds
    assert_same_arrays(kinds.arrays(), after.distance_models.kinds.arrays())
    assert_same_arrays({"copies": copies_C}, {"copies": after_rule.copies_C})
    assert after_rule.weights_C.tolist() == calibrated.weights_C.tolist()
    text = json.loads((tmp_path / "rule.json").read_text())
    names = (text["ood_score"], text["vetoes"])
    assert names == ("joint_distance", ["knn_distance", "several_hands"])


def test_p_in_distribution_comes_back_to_the_bit(tmp_path: Path) -> None:
    before = InDistribution(0.3, f(0, 0.1 + 0.2, 4), f(0.9, 1 / 3, 0.01))
    path = saved(tmp_path, in_distribution=before)
    after = rule_file.load(path)[0].in_distribution
    assert after and after.ood_prior == before.ood_prior
    assert after.statistics.tobytes() == before.statistics.tobytes()
    assert after.probabilities.tobytes() == before.probabilities.tobytes()
    assert json.loads(path.read_text())["ood_prior"] == 0.3


@pytest.mark.parametrize(
    "risk_control", [RiskControl(0.05, 0.25, 40, 30, 1), RiskControl(0.01, images=40)]
)
def test_risk_control_comes_back(risk_control: RiskControl, tmp_path: Path) -> None:
    path = saved(tmp_path, risk_control=risk_control)
    assert rule_file.load(path)[0].risk_control == risk_control


def test_rule_json_describes_the_rule(tmp_path: Path) -> None:
    text = json.loads(saved(tmp_path).read_text())
    about = {"images": 4, "signers": 2, "resolution_per_signer": 1 / 3}
    assert text["calibration"] == about
    assert text["arrays"]["file"] == "rule.safetensors"
    names = (text["ood_score"], text["vetoes"], text["uncertainty_score"])
    assert names == ("regional_mahalanobis", ["knn_distance"], "total_uncertainty")


def test_changed_arrays_are_noticed(tmp_path: Path) -> None:
    path = saved(tmp_path)
    arrays = tmp_path / "rule.safetensors"
    content = bytearray(arrays.read_bytes())
    content[-1] ^= 1
    arrays.write_bytes(content)
    with pytest.raises(UserError, match=r"rule\.safetensors.*sha256.*changed"):
        rule_file.load(path)


@pytest.mark.parametrize("length", [0, 7, 1000])
def test_damaged_arrays_are_noticed(length: int, tmp_path: Path) -> None:
    path = saved(tmp_path)
    arrays = tmp_path / "rule.safetensors"
    arrays.write_bytes(arrays.read_bytes()[:length])
    with pytest.raises(UserError, match=r"rule\.safetensors"):
        rule_file.load(path)


def test_missing_and_incomplete_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "rule.json"
    with pytest.raises(UserError, match="not there"):
        rule_file.load(path)
    saved(tmp_path)
    text = json.loads(path.read_text())
    names = ("target_coverage", "neighbours", "joint_scales", "gda", "member_gdas", "risk_control")
    for name in names:
        path.write_text(json.dumps({key: value for key, value in text.items() if key != name}))
        with pytest.raises(UserError, match=f"not a rule of this version .*{name}"):
            rule_file.load(path)
    path.write_text(json.dumps(text))
    (tmp_path / "rule.safetensors").unlink()
    with pytest.raises(UserError, match=r"rule\.safetensors: not there"):
        rule_file.load(path)
    for content in ("{}", "[1]", '{"arrays": {}}'):
        path.write_text(content)
        with pytest.raises(UserError, match="not a rule of this version"):
            rule_file.load(path)
