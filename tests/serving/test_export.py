"""Exporting a run: both formats answer as the run does; a folder is complete or not there."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from refused_exports import LOADED, REFUSED, Wrong, refused_by_the_system

from sign_ensemble import UserError, export, load_ensemble
from sign_ensemble.core.atomic_folders import atomic_folder
from sign_ensemble.core.console import exit_with
from sign_ensemble.core.run_folder import RunFolder
from sign_ensemble.pipeline import exporting
from sign_ensemble.pipeline.exporting import ExportSettings, SelfTest
from sign_ensemble.rejection.predictor import Predictor
from sign_ensemble.serving.loaded_ensemble import Backend

FILES = {
    "torch": {"config.yaml", "hands.json", "members", "metrics.json", "rule.json",
              "rule.safetensors"},
    "onnx": {"model.onnx", "sign_ensemble_runtime"},
}  # fmt: skip
BOTH = {"LICENSE", "NOTICE", "README.md", "examples", "labels.json", "self-test.json"}


@pytest.fixture
def run(hand_run: Path, tmp_path: Path) -> Path:
    """A copy of the run that a test may damage."""
    left_out = shutil.ignore_patterns("ray", "trials", "figures", "report.html")
    return shutil.copytree(hand_run, tmp_path / "run", ignore=left_out)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def exported(run: Path, out: Path, *more: str) -> None:
    export.main([f"--run={run}", f"--out={out}", *more])


@pytest.mark.parametrize("format", ["torch", "onnx"])
def test_what_was_exported_answers_as_the_run_does(
    hand_run: Path, hands_folder: Path, tmp_path: Path, format: str,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    out = tmp_path / "out"
    exported(hand_run, out, f"--format={format}")
    assert "0 labels and 0 decisions differ" in capsys.readouterr().out
    assert names(out) == BOTH | FILES[format]
    assert names(tmp_path) == {"out"}
    counted = json.loads((out / "self-test.json").read_text())
    assert (counted["format"], counted["signs"], counted["int8"]) == (format, 36, None)
    assert counted["negatives"] == 9 + 25 + 25  # gestures of training signers, no hand, two
    assert counted["float32"]["pictures"] == 95
    ensemble, own = load_ensemble(out), load_ensemble(hand_run)
    assert json.loads((out / "labels.json").read_text()) == [*own.labels] == [*ensemble.labels]
    assert ensemble.rule == own.rule
    assert ensemble.card == (out / "README.md").read_text()
    pictures = sorted(hands_folder.glob("signer-4/*/00001.png"))
    for found, expected in zip(ensemble.predict(pictures), own.predict(pictures), strict=True):
        assert (found.label, found.reason) == (expected.label, expected.reason)
        assert found.votes_in_words == expected.votes_in_words
        assert found.confidence == pytest.approx(expected.confidence, abs=1e-3)
        assert found.p_value == pytest.approx(expected.p_value, abs=1e-3)


def test_examples_are_pixels_alone_of_training_signers(
    hand_run: Path, hands_folder: Path, tmp_path: Path
) -> None:
    exported(hand_run, tmp_path / "out", "--format=torch", "--examples=2")
    examples = sorted((tmp_path / "out" / "examples").iterdir())
    labels = load_ensemble(hand_run).labels[:2]
    for example, label in zip(examples, labels, strict=True):
        with Image.open(example) as image:
            assert image.info == {} and not image.getexif()
            source = Image.open(hands_folder / f"signer-1/{label}/00001.png")
            assert np.array_equal(np.array(image), np.array(source.convert("RGB")))
    exported(hand_run, tmp_path / "none", "--format=torch", "--examples=0")
    assert not (tmp_path / "none" / "examples").exists()
    assert "show people's hands" not in (tmp_path / "none" / "README.md").read_text()


def test_a_torch_export_names_no_place_of_the_machine(hand_run: Path, tmp_path: Path) -> None:
    exported(hand_run, tmp_path / "out", "--format=torch")
    for file in ("config.yaml", "README.md", "self-test.json"):
        assert str(hand_run.parent) not in (tmp_path / "out" / file).read_text()


def test_an_earlier_export_is_replaced_when_the_new_one_is_complete(
    hand_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    exported(hand_run, out, "--format=torch")
    (out / "added").write_text("by the user")
    with monkeypatch.context() as patched:
        patched.setattr(exporting, "card_of", broken)
        with pytest.raises(UserError, match="broken"):
            exported(hand_run, out, "--format=torch")
    assert names(out) == BOTH | FILES["torch"] | {"added"}
    left = tmp_path / ".out.partial"  # of a killed process
    left.mkdir()
    (left / "half").write_text("")
    exported(hand_run, out, "--format=torch", "--examples=0")
    assert names(out) == (BOTH | FILES["torch"]) - {"examples"}
    assert names(tmp_path) == {"out"}


def broken(*_: object) -> str:
    raise UserError("broken")


class Biased:
    """A backend that answers otherwise than the run: what is accepted is rejected."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def answer(self, pictures: np.ndarray) -> object:
        found = self._backend.answer(pictures)
        object.__setattr__(found, "accepted_N", ~found.accepted_N)
        return found


def test_an_export_that_answers_otherwise_is_refused(
    hand_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = exporting.WRITERS["torch"]

    def biased(run: RunFolder, predictor: Predictor, made: Path) -> object:
        return Biased(write(run, predictor, made))

    monkeypatch.setitem(exporting.WRITERS, "torch", biased)
    with pytest.raises(UserError, match=r"not exported, since .* otherwise .* 95 decisions differ"):
        exported(hand_run, tmp_path / "out", "--format=torch")
    assert names(tmp_path) == set()


def test_int8_is_counted_and_not_refused(hand_run: Path, tmp_path: Path) -> None:
    found: SelfTest = exporting.export(
        RunFolder(hand_run), tmp_path / "out", ExportSettings("onnx", int8=True, examples=0)
    )
    assert found.int8 and found.int8.probability > found.float32.probability
    assert "quantised to int8" in (tmp_path / "out" / "README.md").read_text()
    counted = json.loads((tmp_path / "out" / "self-test.json").read_text())
    assert counted["int8"]["pictures"] == 95


def complaint(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as ended:
        exit_with(lambda: export.main(arguments))
    assert ended.value.code == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ") and err.endswith("\n") and len(err.splitlines()) == 1
    return err


@pytest.mark.parametrize("wrong", REFUSED.values(), ids=[*REFUSED])
def test_what_cannot_be_exported_is_refused_in_one_line(
    run: Path, tmp_path: Path, wrong: Wrong, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    out = tmp_path / "place" / "out"
    out.parent.mkdir()
    wrong.prepare(run, out)
    for target, name, value in wrong.patches:
        monkeypatch.setattr(target, name, value)
    before = {str(path): path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    given = {"run": f"--run={run}", "out": f"--out={out}", "format": "--format=torch"}
    given |= {key: f"--{key}={value.format(run=run, out=out)}" for key, value in wrong.given}
    message = complaint([*given.values(), *wrong.flags], capsys)
    for part in wrong.names:
        assert part.format(run=run, out=out) in message
    after = {str(path): path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    after.pop(str(out.parent)), before.pop(str(out.parent))
    assert after == before


@pytest.mark.parametrize("part", ["making the folder", "a full disk"])
def test_what_the_system_refuses_is_named(
    run: Path, tmp_path: Path, part: str, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    out = tmp_path / "place" / "out"
    with monkeypatch.context() as patched:
        reason = refused_by_the_system(part, patched)
        message = complaint([f"--run={run}", f"--out={out}", "--format=torch"], capsys)
    assert f"{out}" in message and f"cannot be written ({reason}" in message
    assert not out.parent.exists() or names(out.parent) == set()


def test_while_another_export_is_writing(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with atomic_folder(tmp_path / "out") as folder:
        (folder / "first").write_text("")
        message = complaint([f"--run={run}", f"--out={tmp_path / 'out'}", "--format=torch"], capsys)
    assert "is being written by another command" in message
    assert names(tmp_path / "out") == {"first"}


@pytest.fixture(scope="module")
def both(hand_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Exports in both formats."""
    home = tmp_path_factory.mktemp("exports")
    for format in FILES:
        exported(hand_run, home / format, f"--format={format}", "--examples=0")
    return home


@pytest.mark.parametrize("name", [*LOADED])
def test_an_exported_folder_that_was_damaged_is_refused(
    both: Path, tmp_path: Path, name: str
) -> None:
    format, damage, words = LOADED[name]
    folder: Path = shutil.copytree(both / format, tmp_path / "out")
    change: Callable[[Path], object] = damage
    change(folder)
    with pytest.raises(UserError) as raised:
        load_ensemble(folder)
    for part in words:
        assert part in str(raised.value)
    assert len(str(raised.value).splitlines()) == 1


def test_there_are_twenty_cases() -> None:
    assert len(REFUSED) + len(LOADED) >= 20


def test_an_exported_folder_is_not_exported_again(both: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"it has no manifest.parquet, as an exported folder"):
        exported(both / "torch", tmp_path / "again", "--format=torch")
