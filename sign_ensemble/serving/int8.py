"""A smaller and faster ``model.onnx``: convolutions and heads in 8 bits.

Gaussians, reference set and rule stay as they are. onnxruntime quantises statically, in its
format QDQ: the range of every product's input is taken from training images, weights have a scale
for each of their outputs.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sign_ensemble.core.storage import StoragePath
from sign_ensemble.serving.onnx_file import write_model

if TYPE_CHECKING:
    import onnx

PRODUCTS = ("Conv", "MatMul", "Gemm")
LAYERS = (".heads.", "convolutions.", ".own.")  # in the names of weights
Inputs = Mapping[str, NDArray[Any]]  # the graph's inputs by name


def quantised(model_path: Path, calibration_inputs: Iterable[Inputs], out: StoragePath) -> None:
    """Write the model in 8 bits, atomically.

    Args:
        model_path: A file of :func:`write_onnx`.
        calibration_inputs: Its inputs for a few batches of training images, with hands among them.
        out: The file to write.

    Raises:
        StorageError: the file cannot be written.
    """
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static

    class Batches(CalibrationDataReader):
        """The batches as onnxruntime asks for them."""

        def __init__(self) -> None:
            self.left: Iterator[Inputs] = iter(calibration_inputs)

        def get_next(self) -> Inputs | None:
            """The next batch; None after the last."""
            return next(self.left, None)

    model = onnx.load(model_path)
    about = [(entry.key, entry.value) for entry in model.metadata_props]
    as_float32(model)
    with tempfile.TemporaryDirectory(prefix="sign_ensemble-") as folder:
        file = Path(folder) / "int8.onnx"
        quantize_static(
            model, file, Batches(), quant_format=QuantFormat.QDQ, per_channel=True,
            nodes_to_quantize=products_of(model),
        )  # fmt: skip
        small = onnx.load(file)
    del small.metadata_props[:]
    for key, value in about:
        small.metadata_props.add(key=key, value=value)
    write_model(small, out)


def is_of_layers(name: str) -> bool:
    """Whether a weight is a convolution's or a head's."""
    return any(part in name for part in LAYERS)


def as_float32(model: onnx.ModelProto) -> None:
    """Weights of convolutions and heads that are stored as float16 become float32, and their casts
    go: the quantiser looks for the weights themselves.
    """
    from onnx import TensorProto, numpy_helper

    graph, renamed = model.graph, {}
    weights = {each.name: each for each in graph.initializer if is_of_layers(each.name)}
    for node in [each for each in graph.node if each.op_type == "Cast"]:
        weight = weights.get(node.input[0])
        if weight is None or weight.data_type != TensorProto.FLOAT16:
            continue
        renamed[node.output[0]] = weight.name
        graph.node.remove(node)
    for name in set(renamed.values()):
        values = numpy_helper.to_array(weights[name]).astype(np.float32)
        weights[name].CopyFrom(numpy_helper.from_array(values, name))
    for node in graph.node:
        for at, name in enumerate(node.input):
            node.input[at] = renamed.get(name, name)
    known = [each for each in graph.value_info if each.name not in {*renamed, *weights}]
    del graph.value_info[:]
    graph.value_info.extend(known)


def products_of(model: onnx.ModelProto) -> list[str]:
    """Names of the products with weights of convolutions and heads."""
    return [
        node.name
        for node in model.graph.node
        if node.op_type in PRODUCTS and any(map(is_of_layers, node.input))
    ]
