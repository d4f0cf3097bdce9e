"""Answers images with an exported ensemble: numpy, Pillow and onnxruntime, without torch.

    from sign_ensemble_runtime import load_ensemble

    ensemble = load_ensemble()
    [prediction] = ensemble.predict("photo.jpg")

An exported folder has this file as the ``__init__.py`` of its package ``sign_ensemble_runtime``.
"""

from __future__ import annotations

import os
from importlib.resources import files
from pathlib import Path

from sign_ensemble.core.errors import UserError
from sign_ensemble.rejection.votes import Vote
from sign_ensemble.serving.loaded_ensemble import LoadedEnsemble
from sign_ensemble.serving.onnx_backend import load_exported
from sign_ensemble.serving.predictions import Disagreement, HandFound, Prediction, RuleSummary

__all__ = [
    "load_ensemble", "LoadedEnsemble", "Prediction", "Vote", "HandFound", "Disagreement",
    "RuleSummary", "UserError",
]  # fmt: skip
CARD = "README.md"


def load_ensemble(
    folder: str | os.PathLike[str] | None = None, target_coverage: float | None = None
) -> LoadedEnsemble:
    """The ensemble of an exported folder, by default the folder that holds this package; another
    ``target_coverage`` than the run's accepts more signs, or fewer.

    Raises:
        UserError: the folder or a file of it cannot be used, or there can be no such target
            coverage.
    """
    home = Path(str(files("sign_ensemble"))).parent if folder is None else Path(folder)
    home = home.expanduser().absolute()
    backend, card = load_exported(home, target_coverage), home / CARD
    text = card.read_text(encoding="utf-8") if card.is_file() else ""
    return LoadedEnsemble(backend, lambda: text)
