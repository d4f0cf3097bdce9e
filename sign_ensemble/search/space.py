"""The hyperparameters and their ranges, as Optuna takes them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution

from sign_ensemble.core.config import FinetuneConfig, MemberConfig, SearchConfig
from sign_ensemble.learning.task import Kind

OF_MEMBER = (
    "dropout", "learning_rate", "weight_decay", "label_smoothing", "augment_prob", "epochs",
    "batch_size",
)  # fmt: skip


LANDMARK_MEMBER = MemberConfig(
    widths=(256, 128), dropout=0.3, learning_rate=1e-3, weight_decay=1e-4, label_smoothing=0.05,
    augment_prob=0.8, epochs=30, components=0, point_noise=0.05,
)  # fmt: skip


def first_recipe(kind: Kind, member: MemberConfig) -> MemberConfig:
    """The recipe of a kind's first trial, and what its other trials do not vary; ``member`` is that
    of members that read pixels.
    """
    return LANDMARK_MEMBER if kind == "landmarks" else member


def distributions(search: SearchConfig, kind: Kind = "pixels") -> dict[str, BaseDistribution]:
    """The search space: rates and decay log-uniform, shares uniform, the rest a few choices."""
    if kind == "landmarks":
        return {
            **distributions(replace(search, trial="head")),
            "learning_rate": FloatDistribution(*search.landmark_rate, log=True),
            "epochs": CategoricalDistribution(search.landmark_epochs),
            "h1": CategoricalDistribution(search.landmark_widths),
            "h2": CategoricalDistribution(search.landmark_widths),
            "point_noise": FloatDistribution(*search.point_noise),
        }
    backbone = {"backbone_rate": FloatDistribution(*search.backbone_rate, log=True)}
    return {
        **(backbone if search.trial == "end-to-end" else {}),
        "dropout": FloatDistribution(*search.dropout),
        "learning_rate": FloatDistribution(*search.learning_rate, log=True),
        "weight_decay": FloatDistribution(*search.weight_decay, log=search.weight_decay[0] > 0),
        "label_smoothing": FloatDistribution(*search.label_smoothing),
        "augment_prob": FloatDistribution(*search.augment_prob),
        "epochs": CategoricalDistribution(search.epochs),
        "batch_size": CategoricalDistribution(search.batch_size),
        "h1": CategoricalDistribution(search.h1),
        "h2": CategoricalDistribution(search.h2),
    }


def default_params(default: MemberConfig, finetune: FinetuneConfig | None = None) -> dict[str, Any]:
    """The first trial's parameters: the default recipe; end-to-end, ``finetune``'s as well."""
    return {
        **({"backbone_rate": finetune.backbone_rate} if finetune else {}),
        **{name: getattr(default, name) for name in OF_MEMBER},
        **({"point_noise": default.point_noise} if default.point_noise else {}),
        "h1": default.widths[0],
        "h2": default.widths[1],
    }


def clipped_to_space(params: dict[str, Any], space: dict[str, BaseDistribution]) -> dict[str, Any]:
    """The nearest point of the space, for the sampler: the default recipe may lie outside it."""
    clipped = {}
    for name, value in params.items():
        if name not in space:  # of the recipe, but not searched for this kind
            continue
        range_ = space[name]
        if isinstance(range_, FloatDistribution):
            value = min(max(value, range_.low), range_.high)
        elif isinstance(range_, CategoricalDistribution):
            value = min(range_.choices, key=lambda choice: abs(float(choice or 0) - value))
        clipped[name] = value
    return clipped
