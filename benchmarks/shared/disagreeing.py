"""Ways to make members disagree where they should, on heads trained as this project's members are:
losses and networks that the literature proposes, each a few lines.

Their negatives are pictures of no hand and of two, made of training signers' signs.

Letters: N images, G negatives, D features, M members, K labels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn.functional import cross_entropy, log_softmax

from shared.rivals import RECIPE, Found, Shown, as_tensor, of_several, trained
from sign_ensemble.core.device import bf16_is_fast
from sign_ensemble.data.backbone import HEAD_FEATURES
from sign_ensemble.learning.network import Head
from sign_ensemble.learning.task import seed_of

MEMBERS = 3
TEMPERATURE = 0.04  # LogitNorm's, Wei et al. 2022, arXiv 2205.09310
EXPOSED = 0.5  # weight of outlier exposure, Hendrycks, Mazeika and Dietterich 2019, 1812.04606
PRIOR = 1.0  # standard deviation of a random prior's logits; Osband et al. 2018, 1806.03335
DISAGREEMENT = 0.2  # weight of it in D-BAT: Pagliardini et al. 2023, 2202.04414
HALF = bf16_is_fast(torch.device("cpu"))
FIRST = "LogitNorm: entropy"  # the row that says whether these are measured
Logits = dict[str, NDArray[np.float32]]
Before = tuple[nn.Module, ...]
LossOf = Callable[[nn.Module, Before, torch.Tensor, torch.Tensor], torch.Tensor]


class WithPrior(nn.Module):
    """A head's logits and, added to them, those of one that is drawn and never learns."""

    def __init__(self, head: Head, drawn: Head, plain_ND: torch.Tensor) -> None:
        super().__init__()
        self.head, self.drawn = head, drawn.eval().requires_grad_(False)
        with torch.no_grad():
            self.scale = PRIOR / float(drawn.logits(plain_ND).std())

    def forward(self, features_ND: torch.Tensor) -> torch.Tensor:
        """Logits."""
        return self.head.logits(features_ND) + self.scale * self.drawn.logits(features_ND)


class Several:
    """Networks trained one after the other by the members' recipe."""

    def __init__(self, shown: Shown, number: int) -> None:
        self.shown, self.number = shown, number
        self.negatives_GD = as_tensor(shown.negatives_GD)
        self.rng = torch.Generator().manual_seed(seed_of(shown.seed, 3, number))

    def head(self, i: int) -> Head:
        """Drawn anew."""
        torch.manual_seed(seed_of(self.shown.seed, 3, self.number, i))
        return Head(HEAD_FEATURES, RECIPE.widths, len(self.shown.task.labels), RECIPE.dropout)

    def some(self, n: int) -> torch.Tensor:
        """As many negatives as there are images in a step."""
        return self.negatives_GD[torch.randint(len(self.negatives_GD), (n,), generator=self.rng)]

    def logits(self, loss: LossOf, drawn: Callable[[int], nn.Module] | None = None) -> Logits:
        """Train MEMBERS networks, heads if nothing else is drawn; their logits (M, N, K) by set.

        Args:
            loss: Of a network, those trained before it, a step's features and labels.
            drawn: The i-th network.
        """
        networks: list[nn.Module] = []
        for i in range(MEMBERS):
            network = drawn(i) if drawn else self.head(i).layers
            trained(self.shown, network, partial(loss, network, tuple(networks)), half=HALF)
            networks.append(network)
        each = [self.shown.each(network) for network in networks]
        return {key: np.stack([x[key].numpy() for x in each]) for key in self.shown.features}


def d_bat_loss(logits_NK: torch.Tensor, others_MNK: torch.Tensor) -> torch.Tensor:
    """D-BAT: the mean of −log(p_m (1 − p) + p (1 − p_m)), p and p_m the probabilities by this
    network and by an earlier one of the label that the earlier one answers.

    Args:
        logits_NK: This network's.
        others_MNK: Probabilities by those before it.
    """
    answers_MN1 = others_MNK.argmax(-1, keepdim=True)
    ours = logits_NK.softmax(-1).expand_as(others_MNK).gather(-1, answers_MN1)
    theirs = others_MNK.gather(-1, answers_MN1)
    return -torch.log(theirs * (1 - ours) + ours * (1 - theirs) + 1e-7).mean()


def normed(logits_NK: torch.Tensor) -> torch.Tensor:
    """LogitNorm: logits scaled to length 1 / TEMPERATURE."""
    return logits_NK / (logits_NK.norm(dim=-1, keepdim=True) + 1e-7) / TEMPERATURE


def logit_norm(shown: Shown) -> Logits:
    """Cross-entropy of normed logits."""

    def loss(network: nn.Module, _: Before, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return cross_entropy(normed(network(x).float()), y)

    return Several(shown, 0).logits(loss)


def outlier_exposure(shown: Shown) -> Logits:
    """Negatives are to get every label with the same probability."""
    ways = Several(shown, 1)

    def loss(network: nn.Module, _: Before, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        both = network(torch.cat([x, ways.some(len(x))])).float()
        uniform = -log_softmax(both[len(x) :], -1).mean()
        return cross_entropy(both[: len(x)], y) + EXPOSED * uniform

    return ways.logits(loss)


def random_priors(shown: Shown) -> Logits:
    """Each member learns the residual of a random function of its own."""
    ways, plain_ND = Several(shown, 2), as_tensor(shown.plain_ND)

    def loss(network: nn.Module, _: Before, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return cross_entropy(network(x).float(), y)

    def drawn(i: int) -> nn.Module:
        return WithPrior(ways.head(2 * i), ways.head(2 * i + 1), plain_ND)

    return ways.logits(loss, drawn)


def d_bat(shown: Shown) -> Logits:
    """Each member after the first is to disagree on negatives with those before it."""
    ways = Several(shown, 4)

    def loss(network: nn.Module, before: Before, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        negatives = ways.some(len(x))
        both = network(torch.cat([x, negatives])).float()
        known = cross_entropy(both[: len(x)], y)
        if not before:
            return known
        with torch.no_grad():
            others = torch.stack([one(negatives).float().softmax(-1) for one in before])
        return known + DISAGREEMENT * d_bat_loss(both[len(x) :], others)

    return ways.logits(loss)


WAYS = {
    "LogitNorm": logit_norm,
    "outlier exposure": outlier_exposure,
    "random priors": random_priors,
    "D-BAT": d_bat,
}


def disagreeing(shown: Shown) -> Iterator[tuple[str, Found]]:
    """Every way's name, answers and scores."""
    for name, way in WAYS.items():
        yield from of_several(name, way(shown))
