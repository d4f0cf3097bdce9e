"""The search space of heads and of end-to-end trials."""

from __future__ import annotations

from optuna.distributions import FloatDistribution

from sign_ensemble.core.config import FinetuneConfig, MemberConfig, SearchConfig
from sign_ensemble.learning.head_training import recipe_of
from sign_ensemble.learning.task import finetune_settings
from sign_ensemble.search.space import default_params, distributions


def test_trials_of_heads_have_no_backbone_rate() -> None:
    space, first = distributions(SearchConfig()), default_params(MemberConfig())
    assert set(space) == set(first)
    assert "backbone_rate" not in space
    settings = FinetuneConfig(layers="last", backbone_rate=3e-4)
    assert finetune_settings(settings, first) == settings


def test_end_to_end_trials_search_the_backbone_rate_too() -> None:
    search = SearchConfig(trial="end-to-end", backbone_rate=(1e-5, 1e-3))
    space = distributions(search)
    assert space["backbone_rate"] == FloatDistribution(1e-5, 1e-3, log=True)
    first = default_params(MemberConfig(dropout=0.3), FinetuneConfig(backbone_rate=4e-5))
    assert set(first) == set(space)
    assert first["backbone_rate"] == 4e-5
    assert recipe_of(MemberConfig(), first) == MemberConfig(dropout=0.3)
    assert finetune_settings(FinetuneConfig(), first).backbone_rate == 4e-5
