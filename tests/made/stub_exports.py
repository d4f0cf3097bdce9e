"""A tiny model.onnx with the inputs, outputs and metadata of an export, whose answers are known.

Every picture is likeliest the first label. Its p-value is 1/4 if there is one hand, else 0; its
confidence is the mean level of what the network sees. The scores are the numbers of hands and the
means of the other inputs.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper, parser

from sign_ensemble.data.hand_views import hand_version
from sign_ensemble.data.square_pictures import geometry
from sign_ensemble.serving.export_metadata import ExportedSettings

SIZE = 96
LABELS = ("b", "v")
SCORES = ("several_hands", "disagreement", "total_uncertainty", "mirrored")
MEMBERS = [[0.75, 0.25], [0.5, 0.5], [0.25, 0.75]]
PROBABILITIES = [0.625, 0.375]
SETTINGS = ExportedSettings(SIZE, "hand", "pad", "normalise", 64_000_000, 16)
RULE = {
    "ood_score": "mirrored", "vetoes": ["several_hands"], "uncertainty_score": "total_uncertainty",
    "uncertainty_share": 0.1, "target_coverage": 0.9, "max_uncertainty": None, "ood_prior": None,
    "calibration_images": 40, "calibration_signers": 3,
}  # fmt: skip
HAND_INPUTS = "int64[N] hands, float[N,42] points, float[N,63] world, bool[N] mirrored,"
ONE_HAND_EACH = """
  images_shape = Shape<end=1>(crops)
  hands = ConstantOfShape<value = int64[1] {1}>(images_shape)
  nowhere = Constant<value_ints=[3]>()
  points_shape = Concat<axis=0>(images_shape, nowhere)
  points = ConstantOfShape(points_shape)
  world = ConstantOfShape(points_shape)
  mirrored = Cast<to=9>(hands)
"""
GRAPH = """
<ir_version: 8, opset_import: ["" : 18]>
stub (uint8[N,96,96,3] crops, HAND_INPUTS double target_coverage)
  => (float[N,2] probabilities, float[3,N,2] member_probabilities, float[N] confidence,
      float[N] p_value, bool[N] accepted, float[N,4] scores, int64[N] deciding)
{
  HANDS
  levels = Cast<to=1>(crops)
  level_axes = Constant<value_ints=[1, 2, 3]>()
  one = Constant<value_ints=[1]>()
  mean = ReduceMean<keepdims=0>(levels, level_axes)
  highest = Constant<value_float=255.0>()
  confidence = Div(mean, highest)
  hand = Constant<value_int=1>()
  single = Equal(hands, hand)
  quarter = Constant<value_float=0.25>()
  nothing = Constant<value_float=0.0>()
  p_value = Where(single, quarter, nothing)
  precise = Cast<to=11>(p_value)
  all = Constant<value = double {1.0}>()
  alpha = Sub(all, target_coverage)
  accepted = Greater(precise, alpha)
  zero = Constant<value_int=0>()
  deciding = Where(single, hand, zero)
  count = Cast<to=1>(hands)
  flags = Cast<to=1>(mirrored)
  counts = Unsqueeze(count, one)
  each_flag = Unsqueeze(flags, one)
  of_points = ReduceMean(points, one)
  of_world = ReduceMean(world, one)
  scores = Concat<axis=1>(counts, of_points, of_world, each_flag)
  first_axis = Constant<value_ints=[0]>()
  images = Shape(hands)
  labels = Constant<value_ints=[2]>()
  shape = Concat<axis=0>(images, labels)
  together = Constant<value = float[2] {0.625, 0.375}>()
  probabilities = Expand(together, shape)
  three = Constant<value_ints=[3]>()
  member_shape = Concat<axis=0>(three, images, labels)
  members = Constant<value = float[3,1,2] {0.75, 0.25, 0.5, 0.5, 0.25, 0.75}>()
  member_probabilities = Expand(members, member_shape)
}
"""


def metadata(**changes: Any) -> dict[str, Any]:
    """What the stub says of itself, with changes."""
    return {
        "schema": 1,
        "labels": LABELS,
        "kinds": ["pixels", "landmarks", "pixels"],
        "weights": [2.0, 1.0, 1.5],
        "gda_count": 1,
        "scores": [
            {"name": name, "title": name, "reason": f"because of {name}"} for name in SCORES
        ],
        "rule": RULE,
        "settings": vars(SETTINGS),
        "hand_networks": {},
        "preprocessing": {**geometry(SETTINGS), **hand_version()},
        "hashes": {},
        "versions": {},
        **changes,
    }


def write_stub(folder: Path, text: str | None = None, with_hands: bool = True) -> Path:
    """Write model.onnx, with another text as its metadata or with none (empty); without hands
    pictures are its only input, and it takes each for one with a hand.
    """
    inputs, hands = (HAND_INPUTS, "") if with_hands else ("", ONE_HAND_EACH)
    model = parser.parse_model(GRAPH.replace("HAND_INPUTS", inputs).replace("HANDS", hands))
    target = numpy_helper.from_array(np.array(RULE["target_coverage"]), "target_coverage")
    model.graph.initializer.append(target)
    text = json.dumps(metadata()) if text is None else text
    if text:
        onnx.helper.set_model_props(model, {"sign_ensemble": text})
    onnx.checker.check_model(model, full_check=True)
    folder.mkdir(exist_ok=True)
    path = folder / "model.onnx"
    onnx.save(model, path)
    return path
