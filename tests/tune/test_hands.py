"""Runs on rendered hands: found, cropped, read by two kinds of members; and on none at all."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hand_runs import EACH, HANDS, LABELS, tuned, write_hands
from PIL import Image
from rendered_hands import flipped, rendered_hand
from started_commands import SLOW, Command, finish

from sign_ensemble.data.picture_conditions import CONDITIONS
from sign_ensemble.rejection.kind_distances import PARTS, READ_BY


@pytest.fixture(scope="module")
def hands_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_hands(tmp_path_factory.mktemp("hands"))


@pytest.fixture(scope="module")
def run_and_words(home: Path, hands_folder: Path) -> tuple[Path, str]:
    return tuned(home, hands_folder, "hands", *HANDS)


@pytest.mark.timeout(SLOW)
def test_two_kinds_of_members_and_the_joint_distance(run_and_words: tuple[Path, str]) -> None:
    run, words = run_and_words
    members = json.loads((run / "members/index.json").read_text())["members"]
    assert [member["kind"] for member in members] == ["pixels", "landmarks"]
    hands = json.loads((run / "hands.json").read_text())
    assert hands["images"] == 3 * len(LABELS) * EACH
    assert hands["found"] >= 0.8 * hands["images"]
    assert hands["mirrored"] == len(LABELS) * EACH  # all of signer 2's
    assert f"{hands['mirrored']} are mirrored" in words
    rule = json.loads((run / "rule.json").read_text())
    assert rule["ood_score"] == "joint_distance"
    all_found = hands["found"] == hands["images"]  # else too many are missed of so few
    assert rule["vetoes"] == ["knn_distance", *["hand_not_found"] * all_found, "several_hands"]
    assert set(rule["joint_scales"]) == {*PARTS, "regional"}
    assert rule["gda"] is None or len(rule["gda"]["temperatures"]) == len(READ_BY)
    assert rule["calibration"]["images"] > hands["images"]  # augmented copies are among them


@pytest.mark.timeout(SLOW)
def test_conditions_and_the_parts_of_disagreement(run_and_words: tuple[Path, str]) -> None:
    run, words = run_and_words
    figures = json.loads((run / "metrics.json").read_text())
    assert list(figures["conditions"]) == ["as taken", *CONDITIONS]
    for each in figures["conditions"].values():
        assert each["accuracy"]["n"] == 4 and 0 <= each["near"]["value"] <= 1
    assert "the same signs taken otherwise" in words
    assert any("hands were found in" in note for note in figures["about"]["notes"])
    table = pq.read_table(run / "answers.parquet").to_pydict()
    parts = (f"score.disagreement_{part}" for part in ("between", "pixels", "landmarks"))
    total = np.sum([table[part] for part in parts], 0)
    assert total == pytest.approx(np.array(table["score.disagreement"]), abs=1e-9)
    page = (run / "report.html").read_text()
    assert "The same signs taken otherwise" in page and "(landmarks)" in page


@pytest.mark.timeout(SLOW)
def test_predict_says_who_read_what_and_refuses_walls_and_pairs(
    run_and_words: tuple[Path, str], tmp_path: Path, start: Callable[..., Command]
) -> None:
    wall = np.random.default_rng(0).normal(220, 3, (192, 256, 3)).clip(0, 255).astype(np.uint8)
    hand = rendered_hand("b")
    shown = {"wall": wall, "pair": np.concatenate([hand, hand], 1), "sign": hand}
    shown["mirrored"] = flipped(hand)
    for name, pixels in shown.items():
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
    out, files = tmp_path / "answers.csv", [str(tmp_path / f"{name}.png") for name in shown]
    finish(start("predict", f"--run={run_and_words[0]}", f"--out={out}", *files))
    head, *rows = out.read_text().splitlines()
    lines = dict(zip(shown, rows, strict=True))
    assert ",false,," in lines["wall"] and "landmarks: " not in lines["wall"]
    assert ',false,,"more than one hand' in lines["pair"]
    sign, mirrored = (next(csv.DictReader([head, lines[name]])) for name in ("sign", "mirrored"))
    for name in ("accepted", "label", "likeliest", "votes"):  # the other hand, read as this one
        assert mirrored[name] == sign[name], name
    assert float(mirrored["probability"]) == pytest.approx(float(sign["probability"]), abs=0.05)
    assert '"pixels: 1 says ' in lines["sign"] and "; landmarks: 1 says " in lines["sign"]


@pytest.mark.timeout(SLOW)
def test_the_same_seed_gives_the_same_members(
    run_and_words: tuple[Path, str], home: Path, hands_folder: Path
) -> None:
    again, _ = tuned(home, hands_folder, "hands-again", *HANDS, "--until=ensemble")
    for name in ("members/index.json", "rule.json"):
        assert (again / name).read_text() == (run_and_words[0] / name).read_text(), name


@pytest.mark.timeout(SLOW)
def test_fine_tuned_members_and_landmark_members(
    home: Path, hands_folder: Path, start: Callable[..., Command], tmp_path: Path
) -> None:
    more = ("--finetune.layers=last", "--finetune.epochs=1", "--until=ensemble")
    run, words = tuned(home, hands_folder, "hands-tuned", *HANDS, *more)
    assert "fine-tuning: 4 networks" in words  # three fold models and one member
    index = json.loads((run / "members/index.json").read_text())
    assert [member["kind"] for member in index["members"]] == ["pixels", "landmarks"]
    Image.fromarray(rendered_hand("v")).save(tmp_path / "v.png")
    command = start("predict", f"--run={run}", str(tmp_path / "v.png"))
    finish(command)
    assert "v.png" in command.out


@pytest.mark.timeout(SLOW)
def test_pictures_without_hands_are_read_by_pixels_alone(home: Path, signs_folder: Path) -> None:
    more = ("--data.crop=hand", "--ensemble.size=1", "--until=ensemble")
    run, words = tuned(home, signs_folder, "no-hands", *more)
    assert "a hand was found in under half of the images: members read pixels alone" in words
    index = json.loads((run / "members/index.json").read_text())
    assert [member["kind"] for member in index["members"]] == ["pixels"]
    rule = json.loads((run / "rule.json").read_text())
    assert (rule["ood_score"], rule["joint_scales"]) == ("regional_mahalanobis", None)


def test_two_labels_and_few_images_never_answer_everything(home: Path, hands_folder: Path) -> None:
    """18 images of three people: a p-value is never below 1/19, and 1/20 is asked for."""
    run, shown = tuned(home, hands_folder, "few", *HANDS, f"--data.labels=[{','.join(LABELS[:2])}]")
    words = " ".join(shown.split())
    assert "18 training images calibrate the rejection rule, and a target coverage of 0.95" in words
    assert "of 2 labels none can be held out: confidence assumes that every image" in words
    assert words.index("calibrate the rejection rule") < words.index("trial 0")
    figures = json.loads((run / "metrics.json").read_text())
    far = {name: each for name, each in figures["sets"].items() if each["kind"] == "far"}
    assert len(far) == 6
    assert {name: each["accepted"]["value"] for name, each in far.items()} == dict.fromkeys(far, 0)
    notes = " ".join(figures["about"]["notes"])
    assert "confidence assumes that every image shown is a sign" in notes
    assert "expect about" in notes
