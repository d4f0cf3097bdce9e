"""A head as it was trained, before it takes features like any other.

Letters: N images, E features, K labels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from sign_ensemble.learning.network import Head, logits_of
from sign_ensemble.learning.principal_components import AT_ONCE, PrincipalComponents, project_unseen
from sign_ensemble.learning.training_loop import FitResult


@dataclass(frozen=True)
class ProjectedHead:
    """A head as it was trained.

    Args:
        head: On coordinates where there is a subspace, else on features.
        fitted: How the training went.
        space: The directions that it learned along, if any.
        key: What these are known by.
    """

    head: Head
    fitted: FitResult
    space: PrincipalComponents | None = None
    key: str = ""

    def on_features(self) -> Head:
        """The head as a member has it."""
        return self.space.unproject(self.head) if self.space else self.head

    def logits(self, unseen: str, read: Callable[[], NDArray[np.float16]]) -> NDArray[np.float32]:
        """Logits (N, K) of images that it has not learned from and that the next trials read too.

        Args:
            unseen: What the images are known by.
            read: Their features (N, E).
        """
        if self.space is None:
            return logits_of(self.head, read())
        device = next(self.head.parameters()).device
        unseen_NP = project_unseen(f"{self.key} {unseen}", self.space, read, device)
        with torch.inference_mode():
            parts = [self.head.logits(some_NP) for some_NP in unseen_NP.split(AT_ONCE)]
        return torch.cat(parts).cpu().numpy()
