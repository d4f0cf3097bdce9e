"""A user's script against the package's types."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import sign_ensemble

SCRIPT = """
from pathlib import Path

import numpy as np

from sign_ensemble import LoadedEnsemble, Prediction, UserError, load_ensemble


def letters(ensemble: LoadedEnsemble, folder: Path) -> list[str]:
    found: list[Prediction] = ensemble.predict(sorted(folder.iterdir()))
    return [each.label for each in found if each.label is not None]


def main() -> None:
    try:
        ensemble = load_ensemble("runs/asl")
    except UserError as mistake:
        raise SystemExit(str(mistake)) from None
    [prediction] = ensemble.predict(np.zeros((480, 640, 3), np.uint8))
    kinds: set[str] = {vote.kind for vote in prediction.votes}
    if prediction.hand is not None:
        left, top, right, bottom = prediction.hand.box
        print(right - left, bottom - top, kinds)
    if prediction.confidence is not None and prediction.disagreement is not None:
        print(prediction.confidence > 0.9, prediction.disagreement.total)
    print(ensemble.labels, ensemble.rule.target_coverage, ensemble.card.upper())
"""


WRONG = {  # a mistake in the script → what mypy says of it
    "labels": ("each.label for", "each.labels for", '"Prediction" has no attribute "labels"'),
    "hand": ("prediction.hand.box", "prediction.hand", '"HandFound" object is not iterable'),
}


def test_mypy_strict_passes_a_users_script_and_finds_its_mistakes(tmp_path: Path) -> None:
    (tmp_path / "right.py").write_text(SCRIPT)
    for name, (old, new, _) in WRONG.items():
        assert old in SCRIPT
        (tmp_path / f"{name}.py").write_text(SCRIPT.replace(old, new))
    package = Path(sign_ensemble.__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent", "--no-pretty",
         "--cache-dir", str(tmp_path / "cache"), *map(str, sorted(tmp_path.glob("*.py")))],
        capture_output=True, text=True, cwd=tmp_path, env={"MYPYPATH": str(package)}, check=False,
    )  # fmt: skip
    found: dict[str, str] = {}
    for line in done.stdout.splitlines():
        if ": error: " in line:
            name = Path(line.partition(":")[0]).stem
            found[name] = found.get(name, "") + line
    assert set(found) == set(WRONG), done.stdout + done.stderr
    for name, (_, _, complaint) in WRONG.items():
        assert complaint in found[name]
