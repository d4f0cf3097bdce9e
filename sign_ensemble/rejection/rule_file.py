"""A rule and its score models as files: rule.json for people, its arrays in rule.safetensors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sign_ensemble.core.atomic_files import (
    file_sha256,
    read_arrays,
    read_json,
    write_arrays,
    write_json,
)
from sign_ensemble.core.errors import UserError
from sign_ensemble.core.storage import StoragePath
from sign_ensemble.rejection.class_gaussians import ClassGaussians
from sign_ensemble.rejection.conformal import resolution
from sign_ensemble.rejection.gda_predictions import gda_predictions_of
from sign_ensemble.rejection.hand_count import HandCountDetector
from sign_ensemble.rejection.joint_distance import joint_scales_of
from sign_ensemble.rejection.kind_distances import KindGaussians
from sign_ensemble.rejection.member_gda import MemberGda
from sign_ensemble.rejection.p_in_distribution import InDistribution
from sign_ensemble.rejection.reference_set import DistanceModels
from sign_ensemble.rejection.regional_mahalanobis import RegionalGaussians
from sign_ensemble.rejection.rule import Rule
from sign_ensemble.rejection.score_models import ScoreModels
from sign_ensemble.rejection.scores import UNCERTAINTY_SCORE
from sign_ensemble.rejection.selective_risk_control import risk_control_of

Arrays = Mapping[str, NDArray[Any]]


def save(rule: Rule, models: ScoreModels, path: StoragePath) -> None:
    """Write the arrays, then rule.json with their sha256."""
    sha256 = write_arrays(path.with_suffix(".safetensors"), arrays_of(rule, models))
    write_json(
        path,
        {
            "ood_score": rule.ood_score,
            "vetoes": rule.vetoes,
            "uncertainty_score": UNCERTAINTY_SCORE,
            "target_coverage": rule.target_coverage,
            "uncertainty_share": rule.uncertainty_share,
            "neighbours": models.neighbours,
            "temperature": rule.temperature,
            "ood_prior": rule.in_distribution.ood_prior if rule.in_distribution else None,
            "joint_scales": models.scales.as_dict() if models.scales else None,
            "gda": vars(models.gda) if models.gda else None,
            "member_gdas": len(models.member_gdas),
            "risk_control": rule.risk_control.as_dict() if rule.risk_control else None,
            "calibration": {
                "images": len(rule.groups_C),
                "signers": len(np.unique(rule.groups_C)),
                "resolution_per_signer": resolution(rule.groups_C),
            },
            "arrays": {"file": path.with_suffix(".safetensors").name, "sha256": sha256},
        },
    )


def arrays_of(rule: Rule, models: ScoreModels) -> dict[str, NDArray[Any]]:
    """All arrays by dotted name."""
    fitted = models.distance_models
    parts: dict[str, Arrays] = {
        "calibration": rule.calibration,
        "third": fitted.third.arrays(),
        "regional": fitted.regional.arrays(),
        "fifth": fitted.fifth.arrays() if fitted.fifth else {},
        "hand_count": fitted.hand_count.arrays() if fitted.hand_count else {},
        "kinds": fitted.kinds.arrays() if fitted.kinds else {},
        **{f"member_gda.{i}": each.arrays() for i, each in enumerate(models.member_gdas)},
    }
    if known := rule.in_distribution:
        parts["in_distribution"] = {
            "statistics": known.statistics, "probabilities": known.probabilities,
        }  # fmt: skip
    arrays = {f"{part}.{name}": v for part, each in parts.items() for name, v in each.items()}
    return arrays | {
        "groups": rule.groups_C,
        **({} if rule.copies_C is None else {"copies": rule.copies_C}),
        "single": rule.single_C,
        "labels": fitted.labels_L,
        "reference": models.reference_BD,
    }


def part(arrays: Arrays, prefix: str) -> dict[str, NDArray[Any]]:
    """The arrays of one part, by the rest of their names."""
    start = f"{prefix}."
    return {name[len(start) :]: v for name, v in arrays.items() if name.startswith(start)}


def load(path: StoragePath) -> tuple[Rule, ScoreModels]:
    """Read a rule and its score models.

    Raises:
        UserError: missing, damaged, changed or of another version.
    """
    values = read_json(path)
    try:
        file = path.parent / values["arrays"]["file"]
        arrays, _ = read_arrays(file)
        if file_sha256(file) != values["arrays"]["sha256"]:
            raise UserError(f"{file}: its sha256 is not the one in {path.name}; it was changed")
        fifth, hand_count, kinds = (part(arrays, p) for p in ("fifth", "hand_count", "kinds"))
        models = ScoreModels(
            distance_models=DistanceModels(
                labels_L=arrays["labels"],
                third=ClassGaussians.of_arrays(part(arrays, "third")),
                regional=RegionalGaussians.of_arrays(part(arrays, "regional")),
                fifth=ClassGaussians.of_arrays(fifth) if fifth else None,
                hand_count=HandCountDetector.of_arrays(hand_count) if hand_count else None,
                kinds=KindGaussians.of_arrays(kinds) if kinds else None,
            ),
            scales=joint_scales_of(values["joint_scales"]),
            reference_BD=arrays["reference"],
            neighbours=values["neighbours"],
            gda=gda_predictions_of(values["gda"]),
            member_gdas=tuple(
                MemberGda.of_arrays(part(arrays, f"member_gda.{i}"))
                for i in range(values["member_gdas"])
            ),
        )
        rule = Rule(
            target_coverage=values["target_coverage"],
            uncertainty_share=values["uncertainty_share"],
            calibration=part(arrays, "calibration"),
            groups_C=arrays["groups"],
            copies_C=arrays.get("copies"),
            single_C=arrays["single"],
            temperature=values["temperature"],
            in_distribution=in_distribution_of(values["ood_prior"], arrays),
            risk_control=risk_control_of(values["risk_control"]),
        )
    except (KeyError, TypeError) as fault:
        raise UserError(f"{path}: not a rule of this version ({fault})") from None
    return rule, models


def in_distribution_of(ood_prior: float | None, arrays: Arrays) -> InDistribution | None:
    """P(in-distribution) as it was saved."""
    if ood_prior is None:
        return None
    return InDistribution(ood_prior, **part(arrays, "in_distribution"))
