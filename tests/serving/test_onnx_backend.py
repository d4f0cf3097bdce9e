"""An exported folder as what reads pictures: the graph's numbers arrive, and bad folders are named.

Letters: N images.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from rendered_hands import flipped, rendered_hand
from stub_exports import LABELS, MEMBERS, PROBABILITIES, SCORES, SIZE, metadata, write_stub

from sign_ensemble import UserError, load_ensemble
from sign_ensemble.data.hand_views import look
from sign_ensemble.serving import exported_ensemble
from sign_ensemble.serving.given_images import square_picture
from sign_ensemble.serving.onnx_backend import AT_ONCE, inputs_of, load_exported

BLANK = np.full((200, 300, 3), 128, np.uint8)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An exported folder with a model card; read only."""
    folder = tmp_path_factory.mktemp("exported")
    write_stub(folder)
    (folder / "README.md").write_text("# A card – of two labels\n", encoding="utf-8")
    return folder


def test_a_folder_with_an_onnx_file_is_an_exported_one(exported: Path) -> None:
    ensemble = load_ensemble(exported)
    assert ensemble.labels == LABELS
    assert ensemble.card == "# A card – of two labels\n"
    rule = ensemble.rule
    assert (rule.target_coverage, rule.vetoes) == (0.9, ("several_hands",))
    [sign, none] = ensemble.predict([rendered_hand("b"), BLANK])
    assert (sign.label, sign.reason, sign.p_value, sign.probability) == ("b", "", 0.25, 0.625)
    assert sign.votes_in_words == "pixels: 2 say b; landmarks: 1 says b; GDA says v"
    assert [vote.is_member for vote in sign.votes] == [True, True, False]
    assert sign.hand and sign.hand.side == "right"
    assert (none.label, none.likeliest, none.hand) == (None, "b", None)
    assert (none.rejected_by, none.reason) == ("several_hands", "because of several_hands")
    assert none.confidence == pytest.approx(128 / 255)
    assert none.votes_in_words == "pixels: 2 say b; GDA says v"


def test_the_graph_reads_what_is_seen_of_the_pictures(exported: Path) -> None:
    backend = load_exported(exported)
    shown = [rendered_hand("b"), BLANK, flipped(rendered_hand("b"))]
    pictures = np.stack([square_picture(each, backend.settings).square_HW3 for each in shown])
    views = look(pictures, backend.settings)
    assert set(inputs_of(views)) == {"crops", "hands", "points", "world", "mirrored"}
    found = backend.answer(pictures)
    assert np.array_equal(found.probs_NK, np.tile(np.array(PROBABILITIES, np.float32), (3, 1)))
    assert np.array_equal(found.probs_MNK, np.array(MEMBERS, np.float32)[:, None].repeat(3, 1))
    levels_N = views.crops_NHW3.mean((1, 2, 3)) / 255
    assert found.confidence_N == pytest.approx(levels_N, rel=1e-5)
    assert tuple(found.scores) == SCORES
    assert found.scores["several_hands"].tolist() == [1, 0, 1]
    assert found.scores["disagreement"] == pytest.approx(views.hands.points_N42.mean(1), rel=1e-5)
    assert found.scores["mirrored"].tolist() == [0, 0, 1]
    assert list(found.deciding_N) == ["disagreement", "several_hands", "disagreement"]
    assert found.hands and found.hands.found_N.tolist() == [True, False, True]


def test_many_pictures_are_answered_as_one_by_one(exported: Path) -> None:
    ensemble = load_ensemble(exported)
    levels = np.arange(AT_ONCE + 6, dtype=np.uint8)[:, None, None, None]
    found = ensemble.predict(np.broadcast_to(levels, (len(levels), SIZE, SIZE, 3)))
    expected = [float(level) / 255 for level in range(len(levels))]
    assert [prediction.confidence for prediction in found] == pytest.approx(expected)
    assert len(found[-1].votes) == 2


def test_another_target_coverage_moves_the_decision_alone(exported: Path) -> None:
    usual = exported_ensemble.load_ensemble(exported)
    strict = exported_ensemble.load_ensemble(exported, target_coverage=0.7)
    [before], [after] = usual.predict(rendered_hand("b")), strict.predict(rendered_hand("b"))
    assert before.accepted and not after.accepted
    assert (after.p_value, after.confidence) == (before.p_value, before.confidence)
    assert (usual.rule.target_coverage, strict.rule.target_coverage) == (0.9, 0.7)


@pytest.mark.parametrize("target", [0.0, 1.0, -3.0, 95.0, float("nan")])
def test_what_is_no_target_coverage(target: float, exported: Path) -> None:
    with pytest.raises(UserError, match=f"target_coverage is {target}; it must be above 0"):
        load_exported(exported, target)


def test_without_hands_the_pictures_are_the_input(tmp_path: Path) -> None:
    squashed = {**metadata()["settings"], "crop": "none", "fit": "squash"}
    preprocessing = {"size": SIZE, "picture": SIZE, "fit": "squash"}
    text = metadata(settings=squashed)
    text["preprocessing"] |= preprocessing
    write_stub(tmp_path, json.dumps(text), with_hands=False)
    [found] = load_ensemble(tmp_path).predict(BLANK)
    assert (found.label, found.hand) == ("b", None)
    assert found.confidence == pytest.approx(128 / 255)


def test_a_folder_without_a_card_still_answers(tmp_path: Path) -> None:
    write_stub(tmp_path)
    assert load_ensemble(tmp_path).card == ""


def changed(**changes: object) -> Callable[[Path], object]:
    return lambda folder: write_stub(folder, json.dumps(metadata(**changes)))


def without(key: str) -> Callable[[Path], object]:
    values = metadata()
    del values[key]
    return lambda folder: write_stub(folder, json.dumps(values))


def cut(folder: Path) -> None:
    path = write_stub(folder)
    path.write_bytes(path.read_bytes()[:900])


BAD: dict[str, tuple[Callable[[Path], object], str]] = {
    "cut": (cut, "onnxruntime cannot run it"),
    "empty": (lambda folder: (folder / "model.onnx").write_bytes(b""), "onnxruntime cannot run it"),
    "another network": (
        lambda folder: write_stub(folder, ""),
        r"not an exported ensemble \(its metadata has no sign_ensemble\)",
    ),
    "another schema": (
        changed(schema=2),
        "of schema 2, and this version reads schema 1; export the run again",
    ),
    "no JSON": (lambda folder: write_stub(folder, "{"), "damaged metadata"),
    "no object": (lambda folder: write_stub(folder, "[1]"), "damaged metadata"),
    "no labels": (without("labels"), "damaged metadata .*'labels'"),
    "another setting": (
        changed(settings={"size": 96, "colour": "red"}),
        "damaged metadata .*colour",
    ),
    "another rule": (changed(rule={"vetoes": []}), "damaged metadata .*ood_score"),
    "other hand networks": (
        changed(preprocessing={**metadata()["preprocessing"], "palm": "0123"}),
        "exported with palm 0123, now it is 1624.*; export the run again",
    ),
    "another way of resizing": (
        changed(preprocessing={**metadata()["preprocessing"], "resizing": 1}),
        "exported with resizing 1, now it is 2",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_file_is_named(case: str, tmp_path: Path) -> None:
    make, reason = BAD[case]
    make(tmp_path)
    with pytest.raises(UserError, match=rf"^{tmp_path}/model.onnx: .*{reason}") as fault:
        load_ensemble(tmp_path)
    assert "\n" not in str(fault.value)


@pytest.mark.parametrize("kind", ["missing", "empty", "file"])
def test_a_folder_without_a_model(kind: str, tmp_path: Path) -> None:
    folder = tmp_path / "export"
    if kind == "empty":
        folder.mkdir()
    if kind == "file":
        folder.write_text("")
    with pytest.raises(UserError, match=rf"^{folder}: not an exported ensemble \(it has no model"):
        load_exported(folder)
