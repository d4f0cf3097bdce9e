"""What an evaluation rests on, beside the images: data, rule, versions, machine."""

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
from sign_ensemble.rejection.predictor import Predictor
from sign_ensemble.rejection.rule import resolution

GIVEN_A_SIGN = "how sure an answer is takes it that every image shown is a sign"


def about(
    config: Config, settings: EvaluateConfig, listed: Manifest, reader: Predictor
) -> dict[str, Any]:
    """What the figures rest on, beside the images."""
    rule = reader.rule
    notes = [
        "intervals: bootstrap over images; they do not say how another signer would fare",
        f"self-made negatives that the rule was chosen on: {', '.join(rule.choice['negatives'])}",
    ]
    notes.append(rule.belief.words() if rule.belief else GIVEN_A_SIGN)
    if rule.readings:
        notes.append(rule.readings.words())
    if rule.promise:
        notes.append(rule.promise.words())
    if config.data.signers == "known":
        notes.append(
            f"the rule was calibrated on {len(np.unique(rule.groups_C))} groups of signers: of a "
            f"whole new signer it speaks with a resolution of {resolution(rule.groups_C):.2f}"
        )
    if config.data.signers == "none":
        notes.append(
            "no signers are known: test images are a random share, so people are the same in "
            "training and test, and the figures say nothing about new people"
        )
    return {
        "rule": rule.choice["chosen"],
        "target_coverage": rule.target_coverage,
        "members": len(reader.ensemble.members),
        "labels": list(reader.ensemble.labels),
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
