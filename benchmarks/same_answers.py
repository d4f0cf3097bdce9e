"""Do the predict command, the Python API and the exported runtime answer the same?

Takes a run of protocol M2 that ``protocol_m.py`` made, and exports it. 300 pictures are written to
a folder: the held-out signer's letters and wrong gestures under each condition of protocol F
(``shared/conditions.py``), backgrounds without a hand, and drawn far pictures. Each is answered in
three ways: by ``python -m sign_ensemble.predict``, by ``load_ensemble`` on the run, and by the
exported folder's own package in a process that may import nothing but numpy, Pillow and
onnxruntime. Where the processor multiplies bf16, the first two are run with it and without it.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image
from shared.conditions import CONDITIONS, under
from shared.results import ROOT, Results, markdown, parser_of, publish

from sign_ensemble.core.device import CPU, bf16_is_fast
from sign_ensemble.core.run_folder import RunFolder, load_config
from sign_ensemble.data import manifest
from sign_ensemble.data.far_ood import FAR_SETS, far_images
from sign_ensemble.data.images import decode_rgb, read_file

NAME = "same_answers"
SIGNS, GESTURES = 13, 4  # of the held-out signer, under each condition
NEAR_THRESHOLD = 1e-3  # p-values this near the threshold may be decided otherwise
PREDICT, API, RUNTIME = "predict", "API", "runtime"
ANSWER = """
import json, sys
from pathlib import Path
class Nothing:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"torch", "ray", "cv2", "scipy", "pyarrow", "sign_ensemble"}:
            raise ImportError(name)
if "--free" not in sys.argv:
    sys.meta_path.insert(0, Nothing())
    sys.path.insert(0, sys.argv[1])
    from sign_ensemble_runtime import load_ensemble
else:
    from sign_ensemble import load_ensemble
paths = sorted(map(str, Path(sys.argv[2]).iterdir()))
found = load_ensemble(sys.argv[1]).predict(paths)
print(json.dumps([
    [each.label, each.likeliest, each.probability, each.confidence, each.p_value] for each in found
]))
"""
Answer = dict[str, NDArray[Any]]


def write_pictures(run: RunFolder, folder: Path, seed: int) -> dict[str, int]:
    """Write the pictures; how many of each kind."""
    listed, rng = manifest.read(run.manifest), np.random.default_rng(seed)
    counts = {"signs": 0, "wrong gestures": 0, "no hand": 0, "far": 0}

    def write(images: list[NDArray[np.uint8]], kind: str) -> None:
        for image in images:
            number = sum(counts.values())
            Image.fromarray(image).save(folder / f"{number:04d}-{kind.replace(' ', '-')}.png")
            counts[kind] += 1

    for condition in CONDITIONS:
        for rows, kind, each in (
            (listed.rows("test"), "signs", SIGNS),
            (listed.rows("near"), "wrong gestures", GESTURES),
        ):
            paths = rows.column("path").to_pylist()
            chosen = rng.permutation(len(paths))[:each]
            raw = [
                decode_rgb(
                    read_file(Path(listed.root) / paths[i])[0], max_pixels=10**8, min_side=16
                )[0]
                for i in chosen
            ]
            write(under(condition, raw, seed), kind)
        write(under(condition, [np.zeros_like(raw[0])], seed), "no hand")
    side = load_config(run).data.size
    for name in FAR_SETS:
        signs = np.zeros((2, side, side, 3), np.uint8)
        write(list(far_images(name, 2, side, seed, signs)), "far")
    return counts


def answered(folder: Path, pictures: Path, free: bool, environment: dict[str, str]) -> Answer:
    """The answers of an ensemble's folder in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", ANSWER, str(folder), str(pictures), *(["--free"] if free else [])],
        check=True, capture_output=True, text=True, env={**os.environ, **environment}, cwd=ROOT,
    )  # fmt: skip
    return as_answer(json.loads(done.stdout))


def as_answer(rows: list[Any]) -> Answer:
    """Columns of rows."""
    label, likeliest, *figures = zip(*rows, strict=True)
    return {
        "label": np.array([name or "" for name in label]),
        "likeliest": np.array(likeliest),
        "figures": np.array(figures, np.float64),
    }


def predicted(run: Path, pictures: Path, environment: dict[str, str]) -> Answer:
    """The answers of the command."""
    with TemporaryDirectory() as folder:
        out = Path(folder) / "answers.parquet"
        subprocess.run(
            [sys.executable, "-m", "sign_ensemble.predict", "--run", str(run), "--out", str(out),
             str(pictures)],
            check=True, capture_output=True, env={**os.environ, **environment}, cwd=ROOT,
        )  # fmt: skip
        rows = pq.read_table(out).to_pylist()
    names = ("label", "likeliest", "probability", "confidence", "p_value")
    return as_answer([[row[name] for name in names] for row in rows])


def difference(one: Answer, other: Answer, threshold: float) -> dict[str, Any]:
    """How two ways differ."""
    most = np.abs(one["figures"] - other["figures"]).max(1)
    accepted, others = one["label"] != "", other["label"] != ""
    nearest = np.minimum(*(np.abs(each["figures"][2] - threshold) for each in (one, other)))
    flips = accepted != others
    return {
        "probability": float(most[0]),
        "confidence": float(most[1]),
        "p_value": float(most[2]),
        "labels differ": int((one["likeliest"] != other["likeliest"]).sum()),
        "of them answered": int(
            ((one["likeliest"] != other["likeliest"]) & (accepted | others)).sum()
        ),
        "decisions differ": int(flips.sum()),
        "of them farther than 1e-3": int((flips & (nearest > NEAR_THRESHOLD)).sum()),
        "p-values within 1e-3 of the threshold": int((nearest <= NEAR_THRESHOLD).sum()),
    }


def measure(arguments: argparse.Namespace) -> Results:
    """All ways, with each kind of products."""
    run = RunFolder(arguments.run.resolve())
    threshold = 1 - load_config(run).rejection.target_coverage
    results: Results = {"products": {}}
    with TemporaryDirectory() as home:
        pictures, exported = Path(home) / "pictures", Path(home) / "exported"
        pictures.mkdir()
        results["n"] = write_pictures(run, pictures, arguments.seed)
        command = [sys.executable, "-m", "sign_ensemble.export", "--run", str(run.path)]
        subprocess.run([*command, "--out", str(exported)], check=True, cwd=ROOT)
        by_runtime = answered(exported, pictures, False, {})
        kinds = {"float32": {"SIGN_ENSEMBLE_FLOAT32": "1"}}
        if bf16_is_fast(CPU):
            kinds["bf16"] = {}
        for kind, environment in kinds.items():
            by_api = answered(Path(str(run.path)), pictures, True, environment)
            by_command = predicted(Path(str(run.path)), pictures, environment)
            results["products"][kind] = {
                f"{PREDICT}, {API}": difference(by_command, by_api, threshold),
                f"{API}, {RUNTIME}": difference(by_api, by_runtime, threshold),
            }
        results["answered"] = int((by_runtime["label"] != "").sum())
    return results


def table(results: Results) -> str:
    """A row per figure, a column per pair of ways."""
    ways = {
        f"{pair}; {kind}": found
        for kind, pairs in results["products"].items()
        for pair, found in pairs.items()
    }
    figures = next(iter(ways.values()))

    def cell(value: float) -> str:
        return f"{value:.1e}" if isinstance(value, float) else str(value)

    rows = [[name, *(cell(way[name]) for way in ways.values())] for name in figures]
    counts = ", ".join(f"{n} {kind}" for kind, n in results["n"].items())
    return (
        markdown(["largest difference, or how many", *ways], rows)
        + f"\n{sum(results['n'].values())} pictures ({counts}), {results['answered']} answered. "
        "float32 and bf16 are the products of the run's own code; the runtime's are float32. "
        f"{results['hardware']}; `{results['command']}`\n"
    )


def main() -> None:
    """Measure and write."""
    parser = parser_of(__doc__)
    parser.add_argument("--run", type=Path, default=Path("runs/protocol-m-5"))
    parser.add_argument("--seed", type=int, default=0)
    publish(NAME, parser.parse_args(), measure, table)


if __name__ == "__main__":
    main()
