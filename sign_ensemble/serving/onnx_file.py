"""A finished run as one ONNX file: ``model.onnx`` of an exported folder.

torch.onnx writes the graph of ``exported_graph.py``; what it notes of the machine that it ran on is
taken out, and the target coverage becomes an input with a default.

Letters: N images.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from sign_ensemble import __version__
from sign_ensemble.core.atomic_files import atomic_write
from sign_ensemble.core.errors import UserError
from sign_ensemble.core.storage import StoragePath
from sign_ensemble.data.square_pictures import PictureSettings
from sign_ensemble.hands import hand_networks
from sign_ensemble.hands.hand_region import POINTS
from sign_ensemble.rejection.predictor import Predictor
from sign_ensemble.rejection.scores import BY_NAME
from sign_ensemble.serving.export_metadata import ENTRY, OUTPUTS, SCHEMA, ExportedSettings
from sign_ensemble.serving.exported_graph import ExportedGraph
from sign_ensemble.serving.run_backend import summary_of

if TYPE_CHECKING:
    import onnx

OPSET = 20  # the first with GridSample as it is used here; onnxruntime 1.17 and later read it
MOST_BYTES = 2**31 - 2**24  # protobuf holds 2 GB; the rest is the graph
HAND_INPUTS = ("hands", "points", "world", "mirrored")
TARGET = "target_coverage"


def write_onnx(predictor: Predictor, path: StoragePath, hashes: Mapping[str, str]) -> None:
    """Write a finished run as one ONNX file, atomically.

    Inputs: ``crops`` (N, H, W, 3) uint8; of a run that uses hands ``hands`` (N,) int64, ``points``
    (N, 42) and ``world`` (N, 63) float32, ``mirrored`` (N,) bool, as ``HandViews`` has them;
    ``target_coverage``, float64, by default the run's. Outputs: OUTPUTS of ``export_metadata.py``.

    Args:
        predictor: The run.
        path: The file.
        hashes: sha256 of the run's files by name, for the metadata.

    Raises:
        UserError: onnx or onnxscript is not installed, or the ensemble is too large for one file.
        StorageError: the file cannot be written.
    """
    for library in ("onnx", "onnxscript"):
        if not find_spec(library):
            raise UserError(
                f"{path}: {library} is not installed; pip install 'sign-ensemble[export]'"
            )
    graph = ExportedGraph(predictor).eval()
    check_size_of(graph, path)
    model = as_onnx(graph, predictor.data.size, predictor.rule.target_coverage)
    about = metadata_of(predictor, graph, hashes)
    entry = model.metadata_props.add()
    entry.key, entry.value = ENTRY, json.dumps(about, allow_nan=False)
    write_model(model, path)


def write_model(model: onnx.ModelProto, path: StoragePath) -> None:
    """Check a model and write it, atomically."""
    import onnx

    with atomic_write(path) as file:
        onnx.save(model, file)
        onnx.checker.check_model(file, full_check=True)


def check_size_of(graph: torch.nn.Module, path: StoragePath) -> None:
    """Refuse what one file cannot hold.

    Raises:
        UserError: it is too large.
    """
    size = sum(each.nbytes for each in graph.buffers())
    if size > MOST_BYTES:
        raise UserError(
            f"{path}: the ensemble has {size / 1e9:.1f} GB of weights, and one ONNX file holds "
            "2 GB; choose fewer or smaller members (ensemble.size)"
        )


def example_inputs(graph: ExportedGraph, size: int) -> dict[str, torch.Tensor]:
    """Inputs of two images, by name, in the order of ``ExportedGraph.forward``."""
    n = 2  # with one, the exporter would take the number of images for a constant
    crops = torch.zeros(n, size, size, 3, dtype=torch.uint8)
    inputs = {"crops": crops, TARGET: torch.tensor(0.5, dtype=torch.float64)}
    if graph.has_hands:
        shapes = (torch.ones(n).long(), torch.zeros(n, 2 * POINTS), torch.zeros(n, 3 * POINTS))
        inputs |= dict(zip(HAND_INPUTS, (*shapes, torch.zeros(n).bool()), strict=True))
    return inputs


def as_onnx(graph: ExportedGraph, size: int, target_coverage: float) -> onnx.ModelProto:
    """The graph as an ONNX model for any number of crops of this size."""
    from onnx import numpy_helper

    inputs = example_inputs(graph, size)
    images = torch.export.Dim("N", min=1)
    with exporter_silenced():
        program = torch.onnx.export(
            graph, tuple(inputs.values()), dynamo=True, opset_version=OPSET,
            input_names=[*inputs], output_names=OUTPUTS, external_data=False, verbose=False,
            dynamic_shapes=tuple({0: images} if each.ndim else {} for each in inputs.values()),
        )  # fmt: skip
    assert program is not None
    model = program.model_proto
    without_traces(model)
    default = numpy_helper.from_array(np.array(target_coverage, np.float64), TARGET)
    model.graph.initializer.append(default)
    return model


@contextmanager
def exporter_silenced() -> Iterator[None]:
    """Ignore what torch's exporter warns of in its own code, in this thread's block."""
    with warnings.catch_warnings():
        # its own use of pytree's older interface
        warnings.filterwarnings("ignore", r"`isinstance\(treespec, LeafSpec\)`", FutureWarning)
        # several inputs have N images, and that is one number
        warnings.filterwarnings("ignore", r"# The axis name: N will not be used", UserWarning)
        yield


def without_traces(model: onnx.ModelProto) -> None:
    """Take out what the exporter notes for people who debug it: paths and lines of this machine's
    code among it.
    """
    graph = model.graph
    parts = (graph.node, graph.value_info, graph.input, graph.output, graph.initializer, [graph])
    for part in parts:
        for each in part:
            each.ClearField("metadata_props")
            each.ClearField("doc_string")


def metadata_of(
    predictor: Predictor, graph: ExportedGraph, hashes: Mapping[str, str]
) -> dict[str, Any]:
    """What a reader of the file needs besides the graph, and what it was made of."""
    data, scores = predictor.data, [BY_NAME[name] for name in graph.score_names]
    return {
        "schema": SCHEMA,
        "labels": predictor.ensemble.labels,
        "kinds": graph.kinds_M,
        "weights": graph.votes_M.tolist(),
        "gda_count": graph.gda_count,
        "scores": [
            {"name": score.name, "title": score.title, "reason": score.reason} for score in scores
        ],
        "rule": vars(summary_of(predictor.rule)),
        "settings": settings_of(data),
        "hand_networks": hand_networks.version(),
        "preprocessing": predictor.ensemble.members[0].card.preprocessing,
        "hashes": dict(hashes),
        "versions": versions(),
    }


def settings_of(data: PictureSettings) -> dict[str, Any]:
    """How pictures are read."""
    return {name: getattr(data, name) for name in ExportedSettings.__dataclass_fields__}


def versions() -> dict[str, str]:
    """Of what wrote the file."""
    import onnx

    return {"sign_ensemble": __version__, "torch": torch.__version__, "onnx": onnx.__version__}
