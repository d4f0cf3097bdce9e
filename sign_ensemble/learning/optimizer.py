"""Adam with decoupled weight decay, by torch's fused kernel."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.optim.adamw import adamw


class Adam:
    """``torch.optim.AdamW(groups, fused=True)``, calling the same function of torch: the same bits.

    Constructing an optimizer of torch's own imports torch's compiler, which in every worker takes
    as long as training a head; see docs/design-log.md.

    Args:
        groups: ``params``, ``lr`` and ``weight_decay`` (per step) of each; ``lr`` may be changed
            between steps.

    Attributes:
        state: ``step``, ``exp_avg`` and ``exp_avg_sq`` of each parameter, from its first step on.
    """

    def __init__(self, groups: list[dict[str, Any]]) -> None:
        self.param_groups = groups
        self.state: dict[nn.Parameter, dict[str, torch.Tensor]] = {}

    def zero_grad(self) -> None:
        """Drop all gradients."""
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """Update every parameter that has a gradient."""
        for group in self.param_groups:
            params = [each for each in group["params"] if each.grad is not None]
            states = [self._state_of(parameter) for parameter in params]
            adamw(
                params,
                [parameter.grad for parameter in params],
                [state["exp_avg"] for state in states],
                [state["exp_avg_sq"] for state in states],
                [],
                [state["step"] for state in states],
                fused=True,
                amsgrad=False,
                beta1=0.9,
                beta2=0.999,
                lr=group["lr"],
                weight_decay=group["weight_decay"],
                eps=1e-8,
                maximize=False,
            )

    def _state_of(self, parameter: nn.Parameter) -> dict[str, torch.Tensor]:
        """A parameter's state; zeros before its first step."""
        if parameter not in self.state:
            self.state[parameter] = {
                "step": torch.zeros((), device=parameter.device),
                "exp_avg": torch.zeros_like(parameter),
                "exp_avg_sq": torch.zeros_like(parameter),
            }
        return self.state[parameter]


def adamw_for(*parts: tuple[nn.Module, float], weight_decay: float) -> Adam:
    """AdamW over the parameters that require a gradient; biases are not decayed.

    Args:
        parts: Modules with their learning rates.
        weight_decay: Decay per step.
    """
    groups = []
    for part, rate in parts:
        params = [p for p in part.parameters() if p.requires_grad]
        matrices = [p for p in params if p.ndim > 1]
        vectors = [p for p in params if p.ndim <= 1]
        groups.append({"params": matrices, "weight_decay": weight_decay, "lr": rate})
        groups.append({"params": vectors, "weight_decay": 0.0, "lr": rate})
    return Adam([group for group in groups if group["params"]])
