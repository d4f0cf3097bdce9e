"""The exported graph computes what the run's own code computes."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from hand_runs import GESTURE, LABELS
from PIL import Image
from rendered_hands import flipped, rendered_hand

from sign_ensemble.core.config import DataConfig, FinetuneConfig
from sign_ensemble.core.errors import UserError
from sign_ensemble.core.run_folder import RunFolder
from sign_ensemble.data.convolutions import Convolutions
from sign_ensemble.data.hand_views import HandViews
from sign_ensemble.data.images import read_image
from sign_ensemble.data.square_pictures import Pixels
from sign_ensemble.hands import hand_networks
from sign_ensemble.learning.member import Member
from sign_ensemble.rejection.ensemble import stack
from sign_ensemble.rejection.gda_predictions import GdaPredictions
from sign_ensemble.rejection.member_gda import fit_member_gda
from sign_ensemble.rejection.predictor import Answers, Predictor, answer, load_predictor
from sign_ensemble.rejection.selective_risk_control import RiskControl
from sign_ensemble.serving import onnx_file
from sign_ensemble.serving.export_metadata import OUTPUTS
from sign_ensemble.serving.exported_graph import ExportedGraph
from sign_ensemble.serving.graph_features import adaptive
from sign_ensemble.serving.int8 import quantised
from sign_ensemble.serving.onnx_file import write_onnx

pytestmark = pytest.mark.usefixtures("float32_products", "one_thread")
CLOSE = 1e-4  # what goes through float32 products
# Of 1 + the score: it is a difference of distances of hundreds, and a feature that is rounded to
# its other neighbour in float16 moves it.
REGIONAL_CLOSE = 1e-3
Run = Callable[..., dict[str, np.ndarray]]


def inputs_of(crops: np.ndarray, views: HandViews | None) -> dict[str, np.ndarray]:
    """The graph's inputs by name."""
    if views is None:
        return {"crops": crops}
    hands = views.hands
    return {
        "crops": views.crops_NHW3, "hands": hands.count_N, "points": hands.points_N42,
        "world": hands.world_N63, "mirrored": views.mirrored_N,
    }  # fmt: skip


@dataclass(frozen=True)
class Case:
    """A run, pictures, and what the run's own code answers."""

    predictor: Predictor
    pictures: np.ndarray

    @cached_property
    def views(self) -> HandViews | None:
        return self.predictor.look(self.pictures)

    @cached_property
    def inputs(self) -> dict[str, np.ndarray]:
        return inputs_of(self.pictures, self.views)

    def answers(self, **changed: Any) -> Answers:
        output = self.predictor.output(self.pictures, None, self.views)
        return answer(output, replace(self.predictor.rule, **changed))


def torch_run(graph: ExportedGraph) -> Run:
    """The module itself."""

    def run(inputs: dict[str, np.ndarray], target: float) -> dict[str, np.ndarray]:
        given = {f"{name}{graph_suffix(name)}": torch.tensor(v) for name, v in inputs.items()}
        coverage = torch.tensor(target, dtype=torch.float64)
        with torch.inference_mode():
            found = graph(target_coverage=coverage, **given)
        return dict(zip(OUTPUTS, (each.numpy() for each in found), strict=True))

    return run


def graph_suffix(name: str) -> str:
    """The shape letters of an input's name in the module."""
    letters = {"crops": "NHW3", "points": "N42", "world": "N63"}
    return f"_{letters.get(name, 'N')}"


def session_of(path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors: it warns of an input with a default
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def onnx_run(path: Path) -> Run:
    """The file in onnxruntime."""
    session = session_of(path)

    def run(inputs: dict[str, np.ndarray], target: float | None = None) -> dict[str, np.ndarray]:
        more = {} if target is None else {"target_coverage": np.array(target)}
        return dict(zip(OUTPUTS, session.run(list(OUTPUTS), {**inputs, **more}), strict=True))

    return run


def names_of(run: dict[str, np.ndarray], answers: Answers) -> list[str]:
    """The deciding scores by name."""
    return [[*answers.scores][index] for index in run["deciding"]]


def assert_same(found: dict[str, np.ndarray], answers: Answers) -> None:
    """Figures to a rounding, decisions exactly."""
    output = answers.output
    for name, expected in (
        ("probabilities", output.probs_NK),
        ("member_probabilities", np.exp(output.log_probs_MNK)),
        ("confidence", answers.confidence_N),
        ("p_value", answers.p_values_N),
    ):
        assert found[name].dtype == np.float32, name
        assert np.abs(found[name] - expected).max() < CLOSE, name
    for column, (name, scores_N) in enumerate(answers.scores.items()):
        differ_N = np.abs(found["scores"][:, column] - scores_N) / (1 + np.abs(scores_N))
        assert differ_N.max() < (REGIONAL_CLOSE if "regional" in name else CLOSE), name
    assert found["accepted"].tolist() == answers.accepted_N.tolist()
    assert names_of(found, answers) == answers.deciding_N
    assert found["probabilities"].argmax(1).tolist() == answers.labels_N.tolist()


def square_pictures(paths: list[Path], data: DataConfig) -> list[Pixels]:
    return [read_image(path, data) for path in paths]


@pytest.fixture(scope="module")
def hands(hand_run: Path, hands_folder: Path) -> Case:
    """Signs of all signers, a wrong gesture, two hands, and no hand."""
    predictor = load_predictor(RunFolder(hand_run))
    names = [f"signer-{s}/{label}/00001.png" for s in (2, 3, 4) for label in (*LABELS, GESTURE)]
    pictures = square_pictures([hands_folder / name for name in names], predictor.data)
    side = pictures[0].shape[0]
    right = Image.fromarray(rendered_hand(LABELS[0])).resize((side // 2, side // 2))
    both = np.full((side, side, 3), 200, np.uint8)
    both[side // 4 : 3 * side // 4, : side // 2] = np.array(right)
    both[side // 4 : 3 * side // 4, side // 2 :] = flipped(np.array(right))
    return Case(predictor, np.stack([*pictures, both, np.full_like(both, 255)]))


@pytest.fixture(scope="module")
def drawn(drawn_run: Path, signs_folder: Path) -> Case:
    """Drawn signs of two signers, a wrong gesture among them, and a grey picture."""
    predictor = load_predictor(RunFolder(drawn_run))
    paths = sorted(signs_folder.glob("[cd]*/*/[01].png"))
    pictures = square_pictures(paths, predictor.data)
    return Case(predictor, np.stack([*pictures, np.full_like(pictures[0], 128)]))


@pytest.fixture(scope="module")
def hands_file(hands: Case, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("onnx") / "hands.onnx"
    write_onnx(hands.predictor, path, {"rule.safetensors": "0" * 64})
    return path


@pytest.fixture(scope="module")
def drawn_file(drawn: Case, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("onnx") / "drawn.onnx"
    write_onnx(drawn.predictor, path, {})
    return path


def test_the_file_answers_as_the_run_does(hands: Case, hands_file: Path) -> None:
    assert hands.views is not None
    count_N, answers = hands.views.hands.count_N, hands.answers()
    assert {0, 1, 2} <= set(count_N.tolist())
    assert hands.views.mirrored_N.any() and not hands.views.mirrored_N.all()
    assert "hand_not_found" in answers.deciding_N
    run = onnx_run(hands_file)
    assert_same(run(hands.inputs), answers)
    for target in (0.5, 0.8, 0.99):
        assert_same(run(hands.inputs, target), hands.answers(target_coverage=target))


def test_the_file_of_a_run_without_hands(drawn: Case, drawn_file: Path) -> None:
    answers = drawn.answers()
    assert {"no_hand", "two_hands"} <= set(answers.scores)
    assert answers.output.gda_count == 2  # of the third layer and of the fifth
    run = onnx_run(drawn_file)
    assert_same(run(drawn.inputs), answers)
    assert_same(run(drawn.inputs, 0.6), drawn.answers(target_coverage=0.6))


def test_one_image_at_a_time_gives_what_many_give(hands: Case, hands_file: Path) -> None:
    run = onnx_run(hands_file)
    together = run(hands.inputs)
    for i in (0, len(hands.pictures) - 1):
        alone = run({name: values[i : i + 1] for name, values in hands.inputs.items()})
        for name in OUTPUTS:
            axis = 1 if name == "member_probabilities" else 0
            expected = np.take(together[name], [i], axis)
            assert alone[name] == pytest.approx(expected, rel=1e-5, abs=1e-6), name


def test_what_the_file_says_of_itself(hands: Case, hands_file: Path) -> None:
    session = session_of(hands_file)
    about = json.loads(session.get_modelmeta().custom_metadata_map["sign_ensemble"])
    answers, predictor = hands.answers(), hands.predictor
    output = answers.output
    assert about["schema"] == 1
    assert about["labels"] == list(predictor.ensemble.labels)
    assert about["kinds"] == list(output.kinds_M)
    assert about["weights"] == output.votes_M.tolist()
    assert about["gda_count"] == output.gda_count
    assert [score["name"] for score in about["scores"]] == list(answers.scores)
    assert about["scores"][0]["reason"] == "pixels and landmarks do not fit one label"
    assert about["rule"]["target_coverage"] == predictor.rule.target_coverage
    assert about["settings"] == {
        "size": 96, "crop": "hand", "fit": "pad", "handedness": "normalise",
        "max_pixels": predictor.data.max_pixels, "min_side": predictor.data.min_side,
    }  # fmt: skip
    assert about["hand_networks"] == hand_networks.version()
    assert about["preprocessing"] == predictor.ensemble.members[0].card.preprocessing
    assert about["hashes"] == {"rule.safetensors": "0" * 64}
    assert set(about["versions"]) == {"sign_ensemble", "torch", "onnx"}
    inputs = {each.name: (each.type, each.shape) for each in session.get_inputs()}
    assert inputs["crops"] == ("tensor(uint8)", ["N", 96, 96, 3])
    assert [*inputs] == ["crops", "hands", "points", "world", "mirrored"]
    defaults = [each.name for each in session.get_overridable_initializers()]
    assert defaults == ["target_coverage"]
    assert [each.name for each in session.get_outputs()] == list(OUTPUTS)


def test_the_file_names_nothing_of_the_machine_that_wrote_it(hands_file: Path) -> None:
    content = hands_file.read_bytes()
    for text in (str(Path(onnx_file.__file__).parent.parent.parent), str(Path.home()), "site-pack"):
        assert text.encode() not in content


def test_weights_are_as_small_as_they_are_in_the_run(drawn: Case, drawn_file: Path) -> None:
    # convolutions and reference images are float16 there, and float16 loses nothing here
    weights = sum(each.nbytes for each in ExportedGraph(drawn.predictor).buffers())
    assert weights < drawn_file.stat().st_size < 1.05 * weights + 2**19
    halves = [each for each in ExportedGraph(drawn.predictor).buffers() if each.itemsize == 2]
    reference = drawn.predictor.models.reference_BD
    assert sum(each.numel() for each in halves) > 2_400_000 + reference.size


def test_in_eight_bits(
    hands: Case, hands_file: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    out = tmp_path / "int8.onnx"
    quantised(hands_file, [hands.inputs], out)
    assert not [each for each in caplog.records if each.name == "root"]
    assert [path.name for path in tmp_path.iterdir()] == ["int8.onnx"]
    # convolutions, float16 before, and heads shrink; the other weights stay
    assert hands_file.stat().st_size - out.stat().st_size > 2_000_000
    before, after = session_of(hands_file), session_of(out)
    for values in ("get_inputs", "get_outputs", "get_overridable_initializers"):
        names = [[each.name for each in getattr(one, values)()] for one in (before, after)]
        assert names[0] == names[1]
    about = [one.get_modelmeta().custom_metadata_map for one in (before, after)]
    assert about[0] == about[1]
    answers, found = hands.answers(), onnx_run(out)(hands.inputs)
    probs_NK = answers.output.probs_NK
    assert 1e-5 < np.abs(found["probabilities"] - probs_NK).max() < 0.2
    assert (found["probabilities"].argmax(1) == answers.labels_N).mean() > 0.8
    for column, (name, scores_N) in enumerate(answers.scores.items()):
        if name in ("hand_not_found", "several_hands"):
            assert found["scores"][:, column].tolist() == scores_N.tolist()


def with_own_convolutions(predictor: Predictor, gdas: bool) -> Predictor:
    """The same with a second pixel member, whose last convolution was fine-tuned."""
    first = next(each for each in predictor.ensemble.members if each.card.kind == "pixels")
    rng, layers = np.random.default_rng(0), Convolutions().state_dict()
    own = {
        name: rng.normal(0, 0.02, layers[name].shape).astype(np.float32)
        for name in ("features.10.weight", "features.10.bias")
    }
    card = replace(first.card, finetune=FinetuneConfig(layers="last"), weight=2)
    members = [Member(card, {**first.tensors, **own}), *predictor.ensemble.members]
    changed = replace(predictor, ensemble=stack(members))
    if not gdas:
        return changed
    labels_B = np.arange(24) % (len(predictor.ensemble.labels) - 1)  # one has no Gaussian
    of_pixels = sum(member.card.kind == "pixels" for member in members)
    drawn = (np.abs(rng.normal(size=(24, 12672))).astype(np.float16) for _ in range(of_pixels))
    models = replace(
        predictor.models,
        member_gdas=tuple(fit_member_gda(each, labels_B) for each in drawn),
        gda=GdaPredictions((20.0,), 0.5, of_members=True),
    )
    return replace(changed, models=models)


@pytest.mark.parametrize("gdas", [False, True])
@pytest.mark.parametrize("name", ["hands", "drawn"])
def test_members_with_convolutions_of_their_own(
    name: str, gdas: bool, request: pytest.FixtureRequest
) -> None:
    case: Case = request.getfixturevalue(name)
    changed = Case(with_own_convolutions(case.predictor, gdas), case.pictures)
    answers = changed.answers()
    of_pixels = [group for group in changed.predictor.ensemble.groups if group.kind == "pixels"]
    assert [group.backbone is not None for group in of_pixels][:2] == [True, False]
    if gdas:
        assert answers.output.gda_count == len(of_pixels)
    run = torch_run(ExportedGraph(changed.predictor))
    assert_same(run(changed.inputs, changed.predictor.rule.target_coverage), answers)


@pytest.mark.parametrize("name", ["hands", "drawn"])
def test_runs_with_less(name: str, request: pytest.FixtureRequest) -> None:
    case: Case = request.getfixturevalue(name)
    old = case.predictor
    fitted = replace(old.models.distance_models, hand_count=None, fifth=None)
    calibration = {
        name: scores_C
        for name, scores_C in old.rule.calibration.items()
        if name not in ("no_hand", "two_hands")
    }
    rule = replace(
        old.rule,
        calibration=calibration,
        uncertainty_share=0.0,
        in_distribution=None,
        risk_control=RiskControl(0.1, 0.5, 10, 10, 0),
    )
    models = replace(old.models, distance_models=fitted, gda=None)
    changed = Case(replace(old, models=models, rule=rule), case.pictures)
    answers = changed.answers()
    assert "no_hand" not in answers.scores and answers.output.gda_count == 0
    run = torch_run(ExportedGraph(changed.predictor))
    assert_same(run(changed.inputs, rule.target_coverage), answers)


@pytest.mark.parametrize("side", [64, 96, 100, 160, 224, 230])
def test_pooling_at_any_size_is_torchs(side: int) -> None:
    third = (side - 7) // 4 + 1  # the first convolution
    for _ in range(2):
        third = (third - 3) // 2 + 1
    for length in (third, (third - 3) // 2 + 1):
        maps = torch.randn(2, 3, length, length)
        highest = torch.nn.functional.adaptive_max_pool2d(maps, 3)
        assert torch.equal(adaptive(maps, 3, torch.amax), highest)
        mean = torch.nn.functional.adaptive_avg_pool2d(maps, 6)
        assert torch.allclose(adaptive(maps, 6, torch.mean), mean, atol=1e-6)


def test_mistakes_are_named_and_leave_no_file(
    drawn: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "model.onnx"
    monkeypatch.setattr(onnx_file, "MOST_BYTES", 2**20)
    with pytest.raises(UserError, match=r"model.onnx: the ensemble has 0\.\d GB of weights") as one:
        write_onnx(drawn.predictor, path, {})
    assert "choose fewer or smaller members" in str(one.value)
    monkeypatch.setattr(onnx_file, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"onnx is not installed; pip install 'sign-ensemble\[exp"):
        write_onnx(drawn.predictor, path, {})
    assert list(tmp_path.iterdir()) == []
