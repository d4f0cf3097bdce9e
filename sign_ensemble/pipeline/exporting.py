"""A finished run → a folder that runs elsewhere: checked, written, tested, then put in place.

The folder holds the ensemble as one ONNX file with a runtime that needs no torch, or as a run's own
files (torch); and in both cases the model card, labels, examples and what the self-test counted.

Letters: N images, H and W rows and columns.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sign_ensemble import __version__
from sign_ensemble.core.atomic_files import atomic_write, read_json, write_json
from sign_ensemble.core.atomic_folders import atomic_folder
from sign_ensemble.core.config import Config
from sign_ensemble.core.console import say
from sign_ensemble.core.errors import UserError
from sign_ensemble.core.run_folder import RunFolder, load_config
from sign_ensemble.core.storage import StoragePath
from sign_ensemble.data import manifest
from sign_ensemble.data.manifest import Manifest
from sign_ensemble.pipeline.self_test_pictures import negatives_of, signs_of
from sign_ensemble.rejection.predictor import Predictor
from sign_ensemble.serving.example_images import examples_of, write_examples
from sign_ensemble.serving.exported_ensemble import CARD
from sign_ensemble.serving.exported_folder import (
    LABELS,
    MADE_BY,
    SELF_TEST,
    Format,
    check_destination,
)
from sign_ensemble.serving.licences import write_licences
from sign_ensemble.serving.loaded_ensemble import Backend
from sign_ensemble.serving.model_card import Exported, card_of
from sign_ensemble.serving.onnx_backend import MODEL_FILE, inputs_of, load_exported
from sign_ensemble.serving.run_backend import RunBackend, load_run
from sign_ensemble.serving.runtime_package import write_runtime
from sign_ensemble.serving.self_test import (
    Differences,
    answers_of,
    bf16_is_used,
    differences,
    loaded_in_float32,
)
from sign_ensemble.serving.torch_folder import check_weights, write_torch

FOR_ONNX = ("onnx", "onnxscript")  # what writing needs besides, see the extra ``export``
CALIBRATION = 64  # training images that int8 is fitted to, at most


@dataclass(frozen=True)
class ExportSettings:
    """What is written."""

    format: Format = "onnx"
    int8: bool = False  # weights of model.onnx quantised
    examples: int = 2  # example images, one per label


@dataclass(frozen=True)
class SelfTest:
    """What the self-test counted: exported against the run's own code, in float32; where that uses
    bf16 here, also against it as it is; and int8, where it was asked for.
    """

    signs: int
    negatives: int
    float32: Differences
    bf16: Differences | None = None
    int8: Differences | None = None

    def words(self) -> str:
        """For people, one line."""
        also = {"run in bf16": self.bf16, "exported in int8": self.int8}
        return "; ".join(
            [f"in float32, {self.float32.words()}"]
            + [f"{title}: {found.words()}" for title, found in also.items() if found]
        )


def export(run: RunFolder, out: StoragePath, settings: ExportSettings) -> SelfTest:
    """Export a run to a folder, complete or not at all.

    Raises:
        UserError: the run is not finished or damaged, its images are gone, the folder cannot be
            written, or the exported ensemble does not answer as the run does.
    """
    folder, config = checked(run, out, settings)
    own, listed = load_run(run), manifest.read(run.manifest)
    if config.data.crop == "none":
        say("landmarks are not read by this run: it is exported with pictures as the only input")
    signs_NHW3 = signs_of(listed, config.data)
    pictures_NHW3 = np.concatenate([signs_NHW3, negatives_of(listed, config.data, signs_NHW3)])
    with atomic_folder(folder) as made:
        found = written_and_tested(run, own, made, pictures_NHW3, len(signs_NHW3), settings)
        write_json(made / LABELS, own.labels)
        complete(run, config, listed, made, found, settings)
    say(f"self-test: {found.words()}")
    say(f"exported: {folder}")
    return found


def checked(run: RunFolder, out: StoragePath, settings: ExportSettings) -> tuple[Path, Config]:
    """The folder to write and the run's config, after what can be refused at once was.

    Raises:
        UserError: says what.
    """
    folder, config = check_destination(out), load_config(run)
    if settings.int8 and settings.format != "onnx":
        raise UserError(f"--int8 is of --format onnx, and --format is {settings.format}")
    if settings.examples < 0:
        raise UserError(f"--examples is {settings.examples}: it must be 0 or more")
    if settings.format == "torch":
        check_weights(config)
    elif missing := [name for name in FOR_ONNX if find_spec(name) is None]:
        raise UserError(
            f"--format onnx needs {' and '.join(missing)}, which is not installed: "
            "pip install 'sign-ensemble[export]'"
        )
    for file in (run.index, run.rule):
        if not file.is_file():
            raise UserError(
                f"{run.path}: it has no {file.name} yet, so it is not finished: run tune to its end"
            )
    if not run.manifest.is_file():
        raise UserError(
            f"{run.path}: it has no manifest.parquet, as an exported folder has none; name the run "
            "that it was exported from"
        )
    return folder, config


def written_and_tested(
    run: RunFolder,
    own: RunBackend,
    made: Path,
    pictures_NHW3: NDArray[np.uint8],
    signs: int,
    settings: ExportSettings,
) -> SelfTest:
    """Write the ensemble, and compare what it answers with what the run answers; of N pictures the
    first ``signs`` are signs.

    Raises:
        UserError: they differ.
    """
    with loaded_in_float32(run) as exact:
        of_run = answers_of(exact, pictures_NHW3)
        opened = WRITERS[settings.format](run, exact.predictor, made)
        exported = answers_of(opened, pictures_NHW3)
    if not (found := differences(of_run, exported, own.rule)).agree:
        raise UserError(
            f"{run.path}: not exported, since the exported ensemble answers otherwise than the run "
            f"does: {found.words()}"
        )
    bf16 = int8 = None
    if bf16_is_used():
        bf16 = differences(answers_of(own, pictures_NHW3), exported, own.rule)
    if settings.int8:
        rounded = in_int8(own.predictor, made, pictures_NHW3[:signs])
        int8 = differences(of_run, answers_of(rounded, pictures_NHW3), own.rule)
    return SelfTest(signs, len(pictures_NHW3) - signs, found, bf16, int8)


def write_run(run: RunFolder, predictor: Predictor, made: Path) -> Backend:
    """The run's own files; opened as whoever gets them does."""
    write_torch(run, made)
    return load_run(RunFolder(made))


def write_model(run: RunFolder, predictor: Predictor, made: Path) -> Backend:
    """model.onnx and its runtime; opened by onnxruntime."""
    from sign_ensemble.serving.onnx_file import write_onnx  # torch's exporter

    arrays = read_json(run.rule)["arrays"]
    hashes = {f"members/{each['file']}": each["sha256"] for each in read_json(run.index)["members"]}
    write_onnx(predictor, made / MODEL_FILE, {**hashes, arrays["file"]: arrays["sha256"]})
    write_runtime(made)
    return load_exported(made)


WRITERS: dict[Format, Callable[[RunFolder, Predictor, Path], Backend]] = {
    "onnx": write_model,
    "torch": write_run,
}


def in_int8(predictor: Predictor, made: Path, signs_NHW3: NDArray[np.uint8]) -> Backend:
    """model.onnx with weights quantised to int8, fitted to training images."""
    from sign_ensemble.serving.int8 import quantised

    some_NHW3 = signs_NHW3[:CALIBRATION]
    views = predictor.look(some_NHW3)
    with atomic_write(made / MODEL_FILE) as file:
        quantised(made / MODEL_FILE, [inputs_of(views) if views else {"crops": some_NHW3}], file)
    return load_exported(made)


def complete(
    run: RunFolder,
    config: Config,
    listed: Manifest,
    made: Path,
    found: SelfTest,
    settings: ExportSettings,
) -> None:
    """Write what both formats have: licences, examples, self-test, model card."""
    write_licences(made)
    examples = write_examples(examples_of(listed, settings.examples), config.data, made)
    write_json(
        made / SELF_TEST,
        {"made_by": MADE_BY, "version": __version__, "format": settings.format, **asdict(found)},
    )
    about = Exported(settings.format, found.words(), examples, settings.int8)
    with atomic_write(made / CARD) as file:
        file.write_text(card_of(run, about), encoding="utf-8")
