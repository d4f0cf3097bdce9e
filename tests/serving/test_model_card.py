"""The model card: what Hugging Face reads of it, and that a file of the run holds every number."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml
from huggingface_hub import ModelCard, ModelCardData, metadata_load
from huggingface_hub.repocard_data import model_index_to_eval_results

from sign_ensemble import UserError, load_ensemble
from sign_ensemble.core.run_folder import RunFolder
from sign_ensemble.core.whose_signs import IMAGES, PEOPLE
from sign_ensemble.serving.model_card import Exported, card_of, plain

IN_THE_TEXT = {"95", "1", "0.90"}  # of "95 % interval", "1 - the target coverage", "≥ 0.90"


@pytest.fixture(scope="module")
def card(hand_run: Path) -> str:
    return card_of(RunFolder(hand_run))


@pytest.fixture
def copied(hand_run: Path, tmp_path: Path) -> Path:
    left_out = shutil.ignore_patterns("ray", "trials", "figures", "report.html")
    return shutil.copytree(hand_run, tmp_path / "run", ignore=left_out)


def leaves(tree: Any) -> Iterator[Any]:
    """Every value below, and the length of every list and object, which a card may count."""
    if isinstance(tree, dict | list):
        yield len(tree)
        for each in tree.values() if isinstance(tree, dict) else tree:
            yield from leaves(each)
    else:
        yield tree


def numbers_of(text: str) -> set[str]:
    return set(re.findall(r"(?<![\w.-])\d+(?:\.\d+)*", text))


def numbers_of_the_run(run: Path) -> set[str]:
    """Every number in its files, as the card may write it."""
    files = [json.loads(path.read_text()) for path in run.glob("*.json")]
    files.append(json.loads((run / "members/index.json").read_text()))
    files.append(yaml.safe_load((run / "config.yaml").read_text()))
    rows = pq.read_table(run / "manifest.parquet").to_pydict()
    splits = ("train", "test", "near", "far", "extra")
    signers = [{s for s, of in zip(rows["signer"], rows["split"], strict=True) if of == split}
               for split in splits]  # fmt: skip
    values = [rows["split"].count(split) for split in splits] + [len(each) for each in signers]
    known = set()
    for value in [*leaves(files), *values]:
        if isinstance(value, str):
            known |= numbers_of(value)
        elif value is not None:
            known |= {str(value), f"{value:.3f}", f"{value:.4f}", str(round(value, 4))}
    return known


def test_every_number_stands_in_a_file_of_the_run(card: str, hand_run: Path) -> None:
    found = numbers_of(card)
    assert len(found) > 40
    assert found - numbers_of_the_run(hand_run) - IN_THE_TEXT == set()


def test_hugging_face_reads_it(card: str, hand_run: Path, tmp_path: Path) -> None:
    read = ModelCard(card)
    assert isinstance(read.data, ModelCardData)
    assert read.data.pipeline_tag == "image-classification"
    assert (read.data.license, read.data.license_link) == ("other", "NOTICE")
    assert read.text.lstrip().startswith("# hands\n")
    (tmp_path / "README.md").write_text(card)
    head = metadata_load(tmp_path / "README.md")
    assert head and head["library_name"] == "sign_ensemble"
    name, results = model_index_to_eval_results(head["model-index"])
    assert name == "hands"
    metrics = json.loads((hand_run / "metrics.json").read_text())
    found = {(each.dataset_type, each.metric_type): each.metric_value for each in results}
    for key, figure in metrics["known"].items():
        assert found["known-signs", key] == pytest.approx(figure["value"], abs=5e-5)
    for of, figures in metrics["sets"].items():
        assert found[of, "auroc"] == pytest.approx(figures["auroc"]["value"], abs=5e-5)
    assert {of for of, _ in found} == {"known-signs", *metrics["sets"]}
    assert read.data.eval_results == results


def test_its_figures_are_those_of_the_evaluation(card: str, hand_run: Path) -> None:
    metrics = json.loads((hand_run / "metrics.json").read_text())

    def shown(figure: dict[str, Any]) -> str:
        return "{value:.3f} ({low:.3f}–{high:.3f})".format(**figure)

    for name, each in metrics["sets"].items():
        row = f"| {name} | {each['kind']} | {each['n']} | {shown(each['accepted'])} | "
        assert f"\n{row}" in card
    for name, each in metrics["conditions"].items():
        assert f"\n| {name} | {shown(each['accuracy'])} | {shown(each['coverage'])} | " in card
    for note in metrics["about"]["notes"]:
        assert f"\n* {plain(note)}\n" in card
    assert f"Signs {PEOPLE.headline}:" in card
    assert "Held out: signer-4." in card


def test_tables_and_lists_stand_alone(card: str) -> None:
    """Markdown: an empty line before each table and list, and rows as wide as their heads."""
    lines = card.split("---\n", 2)[2].splitlines()
    for before, line in pairwise(lines):
        if line.startswith("|") and before and not before.startswith("|"):
            pytest.fail(f"no empty line before {line}")
        if line.startswith("* ") and before and not before.startswith("* "):
            pytest.fail(f"no empty line before {line}")
        if line.startswith("|") and before.startswith("|"):
            assert line.count("|") == before.count("|"), line
    assert not re.search(r"\n\n\n", card)


def test_a_run_that_was_not_evaluated_says_so(copied: Path) -> None:
    (copied / "metrics.json").unlink()
    card = card_of(RunFolder(copied))
    assert "This ensemble was not evaluated." in card
    assert "model-index" not in metadata_of(card) and "95 %" not in card


def test_without_known_signers_nothing_is_said_about_new_people(copied: Path) -> None:
    for name in ("config.yaml", "metrics.json"):
        path = copied / name
        text = path.read_text().replace("signers: known", "signers: none")
        path.write_text(text.replace('"signers": "known"', '"signers": "none"'))
    metrics = json.loads((copied / "metrics.json").read_text())
    metrics["about"]["notes"] = []
    (copied / "metrics.json").write_text(json.dumps(metrics))
    card = card_of(RunFolder(copied))
    assert f"Signs {IMAGES.headline}:" in card
    assert IMAGES.new in card
    assert not re.search(r"unseen|new signer|have not seen|Held out:", card)
    assert metadata_of(card)["model-index"][0]["results"][0]["dataset"]["name"] == (
        f"signs {IMAGES.headline}"
    )


def metadata_of(card: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(card.split("---\n")[1])
    return found


def test_names_of_users_are_shown_as_they_are(copied: Path) -> None:
    metrics = json.loads((copied / "metrics.json").read_text())
    metrics["sets"]["a|b *c*\n<d>"] = metrics["sets"].pop("blank")
    (copied / "metrics.json").write_text(json.dumps(metrics))
    card = card_of(RunFolder(copied))
    assert "\n| a\\|b \\*c\\*\\n\\<d\\> | far | " in card.replace("\\\\n", "\\n")


def test_an_exported_card_says_how_it_is_used(hand_run: Path) -> None:
    about = Exported("onnx", "of 95 pictures none differs", (("examples/1.png", "b"),), int8=True)
    card = card_of(RunFolder(hand_run), about)
    assert "from sign_ensemble_runtime import load_ensemble" in card
    assert "quantised to int8" in card
    assert "of 95 pictures none differs" in card
    assert "show people's hands: `examples/1.png` (b)." in card
    assert "onnx" in metadata_of(card)["tags"]
    torch_card = card_of(RunFolder(hand_run), Exported("torch"))
    assert "sign_ensemble_runtime" not in torch_card and "people's hands" not in torch_card


def test_a_loaded_ensemble_has_it(hand_run: Path, card: str, copied: Path) -> None:
    assert load_ensemble(hand_run).card == card
    (copied / "README.md").write_text("of an exported folder")
    assert load_ensemble(copied).card == "of an exported folder"


def test_a_damaged_evaluation_is_named(copied: Path) -> None:
    (copied / "metrics.json").write_text('{"known": {}}')
    ensemble = load_ensemble(copied)  # it can answer all the same
    with pytest.raises(UserError, match=r"metrics.json: not an evaluation of this version"):
        assert ensemble.card
