"""A rule as files: rule.json for people, and its numbers beside it."""

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
from sign_ensemble.rejection.gda_predictions import gda_predictions_of
from sign_ensemble.rejection.hand_count import HandCountDetector
from sign_ensemble.rejection.member_gda import MemberGda
from sign_ensemble.rejection.p_in_distribution import InDistribution
from sign_ensemble.rejection.regional_mahalanobis import RegionalGaussians
from sign_ensemble.rejection.risk_control import risk_control_of
from sign_ensemble.rejection.rule import Rule, resolution


def save(rule: Rule, path: StoragePath) -> None:
    """Write rule.json and, beside it, its numbers as rule.safetensors; the json last."""
    arrays: dict[str, NDArray[Any]] = {f"scores.{k}": v for k, v in rule.calibration.items()}
    arrays |= {"groups": rule.groups_C, "single": rule.single_C, "bank": rule.bank}
    arrays |= {f"clouds.{k}": v for k, v in rule.clouds.arrays().items()}
    arrays |= {f"parts.{k}": v for k, v in rule.parts.arrays().items()}
    if rule.fifth is not None:
        arrays |= {f"fifth.{k}": v for k, v in rule.fifth.arrays().items()}
    if rule.hands is not None:
        arrays |= {f"hands.{k}": v for k, v in rule.hands.arrays().items()}
    arrays |= {f"own.{i}.{k}": v for i, o in enumerate(rule.own) for k, v in o.arrays().items()}
    if rule.belief:
        arrays |= {"belief.strange": rule.belief.strange_B, "belief.sign": rule.belief.sign_B}
    sha256 = write_arrays(path.with_suffix(".safetensors"), arrays)
    write_json(
        path,
        {
            "witnesses": rule.witnesses,
            "joined": rule.joined,
            "target_coverage": rule.target_coverage,
            "unsure": rule.unsure,
            "neighbours": rule.neighbours,
            "temperature": rule.temperature,
            "ood_prior": rule.belief.share if rule.belief else None,
            "readings": vars(rule.readings) if rule.readings else None,
            "promise": rule.promise.as_dict() if rule.promise else None,
            "own": len(rule.own),
            "calibration": {
                "images": len(rule.groups_C),
                "signers": len(np.unique(rule.groups_C)),
                "resolution_per_signer": resolution(rule.groups_C),
            },
            "numbers": {"file": path.with_suffix(".safetensors").name, "sha256": sha256},
            "choice": rule.choice,
        },
    )


def belief_of(share: float | None, arrays: Mapping[str, NDArray[Any]]) -> InDistribution | None:
    """Undo what :func:`save` did to it."""
    if share is None:
        return None
    return InDistribution(share, arrays["belief.strange"], arrays["belief.sign"])


def part(arrays: Mapping[str, NDArray[Any]], before: str) -> dict[str, NDArray[Any]]:
    """The arrays whose names begin so, by the rest of their names."""
    return {name[len(before) :]: v for name, v in arrays.items() if name.startswith(before)}


def load(path: StoragePath) -> Rule:
    """Read a rule.

    Raises:
        UserError: missing, damaged or changed.
    """
    values = read_json(path)
    try:
        numbers = path.parent / values["numbers"]["file"]
        arrays, _ = read_arrays(numbers)
        if file_sha256(numbers) != values["numbers"]["sha256"]:
            raise UserError(f"{numbers}: its sha256 is not the one in {path.name}; it was changed")
        return Rule(
            witnesses=tuple(values["witnesses"]),
            joined=values["joined"],
            target_coverage=values["target_coverage"],
            unsure=values.get("unsure", 0.0),
            calibration=part(arrays, "scores."),
            groups_C=arrays["groups"],
            single_C=arrays["single"],
            neighbours=values["neighbours"],
            bank=arrays["bank"],
            clouds=ClassGaussians.of_arrays(part(arrays, "clouds.")),
            parts=RegionalGaussians.of_arrays(part(arrays, "parts.")),
            fifth=ClassGaussians.of_arrays(fifth) if (fifth := part(arrays, "fifth.")) else None,
            readings=gda_predictions_of(values["readings"]),
            choice=values["choice"],
            temperature=values["temperature"],
            promise=risk_control_of(values["promise"]),
            belief=belief_of(values["ood_prior"], arrays),
            hands=HandCountDetector.of_arrays(hands) if (hands := part(arrays, "hands.")) else None,
            own=tuple(MemberGda.of_arrays(part(arrays, f"own.{i}.")) for i in range(values["own"])),
        )
    except (KeyError, TypeError) as fault:
        raise UserError(f"{path}: not a rule of this version ({fault})") from None
