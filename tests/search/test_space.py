"""The search space of heads, of end-to-end trials and of landmark members."""

from __future__ import annotations

from optuna.distributions import CategoricalDistribution, FloatDistribution

from sign_ensemble.core.config import FinetuneConfig, MemberConfig, SearchConfig
from sign_ensemble.learning.head_training import recipe_of
from sign_ensemble.learning.task import finetune_settings
from sign_ensemble.search.space import LANDMARK_MEMBER, default_params, distributions


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


def test_landmark_members_search_ranges_of_their_own() -> None:
    search = SearchConfig(
        trial="end-to-end", landmark_rate=(1e-3, 2e-3), landmark_epochs=(7, 9),
        landmark_widths=(5, 6), point_noise=(0.1, 0.3),
    )  # fmt: skip
    space = distributions(search, "landmarks")
    assert space["learning_rate"] == FloatDistribution(1e-3, 2e-3, log=True)
    assert space["epochs"] == CategoricalDistribution((7, 9))
    assert space["h1"] == space["h2"] == CategoricalDistribution((5, 6))
    assert space["point_noise"] == FloatDistribution(0.1, 0.3)
    first = default_params(LANDMARK_MEMBER)
    assert set(first) == set(space)  # no backbone rate: they have no convolutions
    assert recipe_of(LANDMARK_MEMBER, first) == LANDMARK_MEMBER
