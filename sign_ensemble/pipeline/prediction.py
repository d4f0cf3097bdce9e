"""A finished ensemble and new images to a table of answers."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
from numpy.typing import NDArray

from sign_ensemble.core.atomic_files import atomic_write
from sign_ensemble.core.config import DataConfig
from sign_ensemble.core.console import progress, say
from sign_ensemble.core.printable_text import storable
from sign_ensemble.core.run_folder import RunFolder, load_config
from sign_ensemble.core.storage import StoragePath
from sign_ensemble.data.images import SetAside, read_image
from sign_ensemble.data.picture_files import named_pictures
from sign_ensemble.data.square_pictures import picture_side
from sign_ensemble.rejection.predictor import Predictor, load_predictor

AT_ONCE = 256  # images in memory: 154 MB
FIGURES = ("confidence", "probability", "disagreement", "p_value")
COLUMNS = ("path", "accepted", "label", "reason", "likeliest", *FIGURES, "votes")
TYPES = {"accepted": pa.bool_(), **dict.fromkeys(FIGURES, pa.float64())}
SCHEMA = pa.schema([(name, TYPES.get(name, pa.string())) for name in COLUMNS])


def answer_files(run: RunFolder, given: Sequence[str]) -> list[dict[str, Any]]:
    """Answers to images; one that cannot be read is rejected with the reason.

    Returns:
        A row per image: path (bytes that are not UTF-8 escaped), accepted, label (None if it is
        rejected), reason, likeliest label, confidence (0 to 1) that it is right, probability of it
        if the image is a sign, disagreement (nats), p_value, votes; the figures are None for
        unreadable images.

    Raises:
        UserError: the run or a path cannot be used.
    """
    data, predictor, found = load_config(run).data, load_predictor(run), named_pictures(given)
    rule = predictor.rule
    for line in [*found.words(), *([] if rule.in_distribution else [rule.confidence_in_words()])]:
        say(line)
    paths = found.files
    rows: list[dict[str, Any]] = []
    with progress("images read") as step:
        for start in range(0, len(paths), AT_ONCE):
            rows += _answer_some(paths[start : start + AT_ONCE], predictor, data)
            step(len(rows), len(paths))
    return rows


def _answer_some(paths: list[Path], predictor: Predictor, data: DataConfig) -> list[dict[str, Any]]:
    def read(path: Path) -> NDArray[np.uint8] | str:
        try:
            return read_image(path, data)
        except SetAside as reason:
            return str(reason)

    with ThreadPoolExecutor() as pool:
        images_or_reasons = list(pool.map(read, paths))
    images = [image for image in images_or_reasons if not isinstance(image, str)]
    stacked = (
        np.stack(images)
        if images
        else np.zeros((0, picture_side(data), picture_side(data), 3), np.uint8)
    )
    answers = predictor.answer(stacked)
    labels, rows, i = predictor.ensemble.labels, [], 0
    for path, image in zip(paths, images_or_reasons, strict=True):
        name = storable(str(path))
        if isinstance(image, str):
            blank: dict[str, Any] = dict.fromkeys(COLUMNS)
            rows.append({**blank, "path": name, "accepted": False, "reason": image})
            continue
        likeliest, accepted = labels[answers.labels_N[i]], bool(answers.accepted_N[i])
        rows.append(
            {
                "path": name,
                "accepted": accepted,
                "label": likeliest if accepted else None,
                "reason": answers.reason(i, labels),
                "likeliest": likeliest,
                "confidence": float(answers.confidence_N[i]),
                "probability": float(answers.probability_N[i]),
                "disagreement": float(answers.scores["disagreement"][i]),
                "p_value": float(answers.p_values_N[i]),
                "votes": answers.votes(i, labels),
            }
        )
        i += 1
    return rows


def write_answers(rows: list[dict[str, Any]], out: StoragePath) -> None:
    """Write the table as CSV or Parquet, by the file's ending, whole or not at all."""
    table = pa.Table.from_pylist(rows, SCHEMA)
    with atomic_write(out) as temporary:
        if out.name.lower().endswith(".csv"):
            pa_csv.write_csv(table, temporary)
        else:
            pq.write_table(table, temporary)
