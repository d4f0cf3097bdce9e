"""What model.onnx gives, and what it says of itself: one entry of its metadata, JSON.

Letters: M members, then GDA predictions.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sign_ensemble.core.errors import UserError
from sign_ensemble.data.hand_views import hand_version
from sign_ensemble.data.square_pictures import Fit, geometry
from sign_ensemble.serving.predictions import RuleSummary

ENTRY = "sign_ensemble"
BY_MEMBER = "member_probabilities"  # the output whose second axis is the images
OUTPUTS = (
    "probabilities", BY_MEMBER, "confidence", "p_value", "accepted", "scores", "deciding",
)  # fmt: skip
SCHEMA = 1  # raise when the file's inputs, outputs or metadata change


@dataclass(frozen=True)
class ExportedSettings:
    """How pictures are read; see ``DataConfig``."""

    size: int
    crop: Literal["hand", "none"]
    fit: Fit
    handedness: Literal["normalise", "as-is"]
    max_pixels: int
    min_side: int


@dataclass(frozen=True)
class ExportMetadata:
    """The part of it that answers need."""

    labels: tuple[str, ...]
    kinds_M: tuple[str, ...]  # what each reads
    weights_M: NDArray[np.float64]  # how many votes each has
    gda_count: int
    scores: tuple[str, ...]  # names, in the order of the output ``scores``
    reasons: Mapping[str, str]  # why an image is rejected, in words, by score
    rule: RuleSummary
    settings: ExportedSettings
    preprocessing: Mapping[str, Any]  # see ``preprocessing_of`` of ``data/feature_cache.py``


def metadata_of(text: str | None, path: Path) -> ExportMetadata:
    """The metadata of the file ``path``; None: it has no such entry.

    Raises:
        UserError: it is none that this version reads, or pictures would be prepared otherwise than
            for it.
    """
    if text is None:
        raise UserError(f"{path}: not an exported ensemble (its metadata has no {ENTRY})")
    try:
        values = json.loads(text)
        schema = values["schema"]
        if schema != SCHEMA:
            raise UserError(
                f"{path}: its metadata is of schema {schema}, and this version reads schema "
                f"{SCHEMA}; export the run again"
            )
        found = _of_values(values)
    except (ValueError, KeyError, TypeError) as fault:
        raise UserError(f"{path}: damaged metadata ({type(fault).__name__}: {fault})") from None
    _check_preprocessing(found, path)
    return found


def _of_values(values: Mapping[str, Any]) -> ExportMetadata:
    rule = values["rule"]
    return ExportMetadata(
        labels=tuple(values["labels"]),
        kinds_M=tuple(values["kinds"]),
        weights_M=np.array(values["weights"], np.float64),
        gda_count=int(values["gda_count"]),
        scores=tuple(score["name"] for score in values["scores"]),
        reasons={score["name"]: score["reason"] for score in values["scores"]},
        rule=RuleSummary(**{**rule, "vetoes": tuple(rule["vetoes"])}),
        settings=ExportedSettings(**values["settings"]),
        preprocessing=dict(values["preprocessing"]),
    )


def _check_preprocessing(found: ExportMetadata, path: Path) -> None:
    settings = found.settings
    now = geometry(settings) | (hand_version() if settings.crop == "hand" else {})
    for name, value in now.items():
        if found.preprocessing.get(name) != value:
            raise UserError(
                f"{path}: it was exported with {name} {found.preprocessing.get(name)}, now it is "
                f"{value}; export the run again"
            )
