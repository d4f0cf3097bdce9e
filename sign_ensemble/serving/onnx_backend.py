"""An exported ensemble as what reads pictures: model.onnx, run by onnxruntime.

Letters: N images, M members, then GDA predictions.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sign_ensemble.core.errors import UserError
from sign_ensemble.core.onnx_session import onnx_session
from sign_ensemble.core.threads import thread_count
from sign_ensemble.data.hand_views import HandViews, look
from sign_ensemble.hands.hand_networks import load_networks
from sign_ensemble.serving.answered_images import AnsweredImages
from sign_ensemble.serving.export_metadata import (
    BY_MEMBER,
    ENTRY,
    OUTPUTS,
    ExportedSettings,
    ExportMetadata,
    metadata_of,
)
from sign_ensemble.serving.predictions import RuleSummary

MODEL_FILE = "model.onnx"
AT_ONCE = 64  # pictures of a pass
Inputs = Mapping[str, NDArray]


@dataclass(frozen=True)
class OnnxBackend:
    """Reads pictures with onnxruntime; see ``loaded_ensemble.Backend``."""

    session: Any  # onnxruntime's
    metadata: ExportMetadata
    target_coverage: float | None = None  # None: the run's

    @property
    def labels(self) -> tuple[str, ...]:
        """Label names, in the order of the probabilities."""
        return self.metadata.labels

    @property
    def settings(self) -> ExportedSettings:
        """How pictures are read."""
        return self.metadata.settings

    @property
    def rule(self) -> RuleSummary:
        """The rejection rule in a few numbers."""
        rule, target = self.metadata.rule, self.target_coverage
        return rule if target is None else replace(rule, target_coverage=target)

    @property
    def reasons(self) -> Mapping[str, str]:
        """Why an image is rejected, in words, by score."""
        return self.metadata.reasons

    def answer(self, pictures_NHW3: NDArray[np.uint8]) -> AnsweredImages:
        """What the ensemble says of N square pictures."""
        metadata = self.metadata
        views = look(pictures_NHW3, self.settings) if self.settings.crop == "hand" else None
        found = self._run(inputs_of(views) if views else {"crops": pictures_NHW3})
        return AnsweredImages(
            probs_NK=found["probabilities"],
            probs_MNK=found[BY_MEMBER],
            kinds_M=metadata.kinds_M,
            weights_M=metadata.weights_M,
            gda_count=metadata.gda_count,
            confidence_N=found["confidence"],
            p_values_N=found["p_value"],
            accepted_N=found["accepted"],
            deciding_N=[metadata.scores[number] for number in found["deciding"]],
            scores=dict(zip(metadata.scores, found["scores"].T, strict=True)),
            hands=views.hands if views else None,
        )

    def _run(self, inputs: Inputs) -> dict[str, NDArray]:
        target = self.target_coverage
        given = {} if target is None else {"target_coverage": np.array(target, np.float64)}
        images = len(inputs["crops"])
        parts = []
        for start in range(0, images, AT_ONCE):
            some = {name: each[start : start + AT_ONCE] for name, each in inputs.items()}
            parts.append(self.session.run(list(OUTPUTS), {**some, **given}))
        return {
            name: np.concatenate([part[number] for part in parts], int(name == BY_MEMBER))
            for number, name in enumerate(OUTPUTS)
        }


def inputs_of(views: HandViews) -> Inputs:
    """The graph's inputs for pictures in which hands were looked for."""
    return {
        "crops": views.crops_NHW3,
        "hands": views.hands.count_N,
        "points": views.hands.points_N42,
        "world": views.hands.world_N63,
        "mirrored": views.mirrored_N,
    }


def load_exported(folder: Path, target_coverage: float | None = None) -> OnnxBackend:
    """Read an exported folder; ``target_coverage`` takes the place of the run's.

    Raises:
        UserError: the folder has no model.onnx, or it, or one of the hand networks, cannot be used;
            or there can be no such target coverage.
    """
    if target_coverage is not None and not 0 < target_coverage < 1:
        raise UserError(f"target_coverage is {target_coverage}; it must be above 0 and below 1")
    path = folder / MODEL_FILE
    if not path.is_file():
        raise UserError(f"{folder}: not an exported ensemble (it has no {MODEL_FILE})")
    with ThreadPoolExecutor(1) as pool:  # both take most of the time to the first answer
        networks = pool.submit(load_networks)
        session = onnx_session(path, str(path), thread_count(), fast_products=False)
    metadata = metadata_of(session.get_modelmeta().custom_metadata_map.get(ENTRY), path)
    if metadata.settings.crop == "hand":
        networks.result()
    return OnnxBackend(session, metadata, target_coverage)
