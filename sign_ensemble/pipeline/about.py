"""What an evaluation rests on besides the images: data, rule, versions, machine."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from typing import Any

import numpy as np
import torch

from sign_ensemble import __version__
from sign_ensemble.core.config import Config, EvaluateConfig
from sign_ensemble.data import manifest
from sign_ensemble.data.manifest import Manifest
from sign_ensemble.pipeline.limits_of_data import limits_of_data
from sign_ensemble.rejection.conformal import resolution
from sign_ensemble.rejection.predictor import Predictor


def about(
    config: Config, settings: EvaluateConfig, listed: Manifest, predictor: Predictor
) -> dict[str, Any]:
    """What the figures rest on besides the images."""
    rule = predictor.rule
    notes = [
        "intervals: bootstrap over images; they do not say how another signer would fare",
        rule.confidence_in_words(),
        *limits_of_data(config, listed),
    ]
    if predictor.models.gda:
        notes.append(predictor.models.gda.words())
    if rule.risk_control:
        notes.append(rule.risk_control.words())
    if config.data.signers == "known":
        notes.append(
            f"the rule was calibrated on {len(np.unique(rule.groups_C))} signers or folds; without "
            "further assumptions its coverage of a whole new signer can be guaranteed only up to "
            f"{1 - resolution(rule.groups_C):.2f}"
        )
    if config.data.signers == "none":
        notes.append(
            "no signers are known: test images are the last share of each label's files, so people "
            "may be the same in training and test, and the figures say nothing about new people"
        )
    notes += [*manifest.twins_in_words(listed), *listed.left_out]
    return {
        "rule": rule.words(),
        "target_coverage": rule.target_coverage,
        "signers": config.data.signers,
        "members": len(predictor.ensemble.members),
        "labels": list(predictor.ensemble.labels),
        "images": listed.counts(),
        "gaps": manifest.gaps(listed),
        "evaluate": {"images": settings.images, "seed": settings.seed},
        "notes": notes,
        "versions": {
            "sign_ensemble": __version__,
            "python": platform.python_version(),
            **{name: version(name) for name in ("torch", "ray", "optuna", "numpy")},
        },
        "hardware": hardware(),
    }


def hardware() -> dict[str, Any]:
    """The machine that evaluates."""
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    pages = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "machine": f"{platform.system()} {platform.machine()}",
        "cpus": os.cpu_count(),
        "memory_gib": round(pages / 2**30, 1),
        "gpus": ", ".join(gpus) or "none",
    }
