"""What protocol M shows of one held-out signer, and what a run answered.

Letters: H and W rows and columns, N images.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from sign_ensemble.core.config import EvaluateConfig
from sign_ensemble.core.run_folder import RunFolder, load_config
from sign_ensemble.data import manifest
from sign_ensemble.data.far_ood import FAR_SETS, far_images, folder_images
from sign_ensemble.metrics.curves import risk_coverage
from sign_ensemble.pipeline.preparation import read_images
from sign_ensemble.rejection.rule import ROUNDING

KNOWN, NEAR = "known", "wrong-gesture"
Columns = dict[str, NDArray[Any]]


def answers_of(run: RunFolder) -> Columns:
    """answers.parquet as arrays; whether an answer is right; and how probable it is that the image
    is in-distribution, which confidence is the label's probability times.
    """
    table = pq.read_table(run.answers).drop_columns(["picture"]).to_pydict()
    found = {name: np.array(values) for name, values in table.items()}
    found["right"] = (found["kind"] == KNOWN) & (found["answer"] == found["label"])
    found["in_distribution"] = found["confidence"] / found["probability"]
    return found


def accepted_at(run: RunFolder, targets: Sequence[float]) -> dict[str, dict[str, float]]:
    """Share of each set that each target coverage would accept, by the p-values."""
    found = answers_of(run)
    shares: dict[str, dict[str, float]] = {}
    for target in targets:
        accepted_N = found["p_value"] > 1 - target + ROUNDING
        shares[str(target)] = {
            str(name): float(accepted_N[found["set"] == name].mean()) for name in set(found["set"])
        }
    return shares


def error_at(run: RunFolder, coverage: float) -> float:
    """Share of errors among the signer's signs of highest p-value, as few as make up this coverage;
    those of equal p-value come in together.
    """
    found = answers_of(run)
    known_N = found["kind"] == KNOWN
    wrong_N = ~found["right"][known_N]
    covered, risk = risk_coverage(-found["p_value"][known_N], wrong_N, points=len(wrong_N))
    return float(risk[np.argmax(covered >= coverage)])


def images_of_unseen_signer(
    run: RunFolder, data: Path
) -> tuple[dict[str, NDArray[np.uint8]], NDArray[np.int64]]:
    """Whole images (N, H, W, 3) by set, the signer's signs (KNOWN) first; and the signs' labels.

    The sets are those that ``evaluate`` makes for the run.

    Args:
        run: A run of protocol M.
        data: The folder that holds ``asl-digits``.
    """
    settings = EvaluateConfig()
    plain = replace(load_config(run).data, augmentations=0, crop="none")
    listed = manifest.read(run.manifest)
    test = listed.rows("test")
    truth_N = np.array([listed.labels.index(label) for label in test.column("label").to_pylist()])
    signs = read_images(test, listed.root, plain)
    sets = {KNOWN: signs, NEAR: read_images(listed.rows("near"), listed.root, plain)}
    picked = np.random.default_rng(settings.seed).permutation(len(test))[: settings.images]
    for name in FAR_SETS:
        sets[name] = far_images(
            name, settings.images, plain.size, settings.seed, signs[np.sort(picked)]
        )
    sets["foreign-hands"] = folder_images(f"{data}/asl-digits/[34578]", plain)[0]
    return sets, truth_N
