"""Sign reading with a deep ensemble that says "I don't know".

Search (Ray Tune, Optuna), ensemble, rejection, and evaluation on people the models never saw.

    from sign_ensemble import load_ensemble

    ensemble = load_ensemble("runs/asl")
    [prediction] = ensemble.predict("photo.jpg")

Importing this package loads neither torch nor ray.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sign_ensemble.core.errors import UserError
    from sign_ensemble.rejection.votes import Vote
    from sign_ensemble.serving.load_ensemble import load_ensemble
    from sign_ensemble.serving.loaded_ensemble import LoadedEnsemble
    from sign_ensemble.serving.predictions import (
        Disagreement,
        HandFound,
        Prediction,
        RuleSummary,
    )

__version__ = "0.1.0"
__all__ = [
    "load_ensemble", "LoadedEnsemble", "Prediction", "Vote", "HandFound", "Disagreement",
    "RuleSummary", "UserError",
]  # fmt: skip
_MODULES = {
    "load_ensemble": "serving.load_ensemble",
    "LoadedEnsemble": "serving.loaded_ensemble",
    "Vote": "rejection.votes",
    "UserError": "core.errors",
    **dict.fromkeys(
        ("Prediction", "HandFound", "Disagreement", "RuleSummary"), "serving.predictions"
    ),
}


def __getattr__(name: str) -> Any:
    """Import what is named in ``__all__`` on first use."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
