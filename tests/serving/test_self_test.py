"""What the self-test counts, on answers made by hand; and float32 products."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from sign_ensemble.core import bf16_products
from sign_ensemble.core.device import CPU, bf16_is_fast, float32_products
from sign_ensemble.core.run_folder import RunFolder
from sign_ensemble.data import backbone
from sign_ensemble.serving.answered_images import AnsweredImages
from sign_ensemble.serving.predictions import RuleSummary
from sign_ensemble.serving.self_test import differences, loaded_in_float32

RULE = RuleSummary("joint_distance", (), "total_uncertainty", 0.1, 0.9, None, 0.5, 100, 3)


def answers(
    first_N: list[float],
    p_values_N: list[float],
    accepted_N: list[bool],
    uncertainty_N: list[float] | None = None,
) -> AnsweredImages:
    """Of two labels; the first has these probabilities."""
    probs_NK = np.stack([np.array(first_N), 1 - np.array(first_N)], 1)
    return AnsweredImages(
        probs_NK=probs_NK,
        probs_MNK=probs_NK[None],
        kinds_M=("pixels",),
        weights_M=np.ones(1),
        gda_count=0,
        confidence_N=probs_NK.max(1),
        p_values_N=np.array(p_values_N),
        accepted_N=np.array(accepted_N),
        deciding_N=["joint_distance"] * len(first_N),
        scores={"total_uncertainty": np.array(uncertainty_N or [0.0] * len(first_N))},
    )


# four images: clearly accepted, just accepted (threshold 0.1), rejected, rejected
RUN = answers([0.9, 0.8, 0.6, 0.2], [0.5, 0.1005, 0.05, 0.01], [True, True, False, False])


def test_the_same_answers_in_other_parts() -> None:
    parts = [
        answers([0.9], [0.5], [True]),
        answers([0.8, 0.6, 0.2], [0.1005, 0.05, 0.01], [True, False, False]),
    ]
    found = differences([RUN], parts, RULE)
    assert (found.pictures, found.near_threshold) == (4, 1)
    assert (found.label_flips, found.decision_flips, found.probability) == (0, 0, 0)
    assert found.agree


def test_a_decision_may_flip_near_the_threshold_alone() -> None:
    near = answers([0.9, 0.8, 0.6, 0.2], [0.5, 0.0999, 0.05, 0.01], [True, False, False, False])
    found = differences([RUN], [near], RULE)
    assert (found.decision_flips, found.decision_flips_elsewhere) == (1, 0)
    assert found.p_value == pytest.approx(0.0006)
    assert found.agree
    away = replace(near, accepted_N=np.array([True, True, False, True]))
    found = differences([RUN], [away], RULE)
    assert (found.decision_flips, found.decision_flips_elsewhere) == (1, 1)
    assert not found.agree


def test_a_label_may_flip_only_where_neither_answers() -> None:
    rejected = answers([0.9, 0.8, 0.49, 0.2], [0.5, 0.1005, 0.05, 0.01], [True, True, False, False])
    found = differences([RUN], [rejected], RULE)
    assert (found.label_flips, found.answered_label_flips) == (1, 0)
    assert found.agree
    assert found.probability == pytest.approx(0.11)
    assert found.confidence == pytest.approx(0.09)
    answered = replace(rejected, probs_NK=rejected.probs_NK[[2, 1, 2, 3]])
    found = differences([RUN], [answered], RULE)
    assert (found.label_flips, found.answered_label_flips) == (2, 1)
    assert not found.agree


def test_the_limit_of_selective_risk_control_is_a_threshold_too() -> None:
    rule = replace(RULE, max_uncertainty=0.7)
    one = answers([0.9, 0.9], [0.5, 0.5], [True, True], [0.6, 0.6995])
    other = replace(one, accepted_N=np.array([True, False]))
    found = differences([one], [other], rule)
    assert (found.decision_flips, found.decision_flips_elsewhere, found.near_threshold) == (1, 0, 1)
    assert not differences([one], [other], RULE).agree


def test_float32_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True, "amx_bf16": False}
    )
    assert bf16_is_fast(CPU)
    with float32_products():
        assert not bf16_is_fast(CPU)
        assert not torch.backends.cudnn.allow_tf32
    with pytest.raises(ZeroDivisionError), float32_products():
        raise ZeroDivisionError
    assert bf16_is_fast(CPU)
    assert torch.backends.cudnn.allow_tf32


def test_a_run_loaded_in_float32_leaves_nothing_behind(
    hand_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True, "amx_bf16": False}
    )
    backbone.load.cache_clear()
    try:
        assert backbone.load().half
        with loaded_in_float32(RunFolder(hand_run)) as exact:
            assert not backbone.load().half
            heads = [group.heads for group in exact.predictor.ensemble.groups]
            assert {each.first_UD.dtype for each in heads} == {torch.float32}
            assert bf16_products.bf16_if_fast(torch.zeros(1)).dtype == torch.float32
        assert backbone.load().half
    finally:
        backbone.load.cache_clear()
    assert bf16_products.bf16_if_fast(torch.zeros(1)).dtype == torch.bfloat16
