"""What benchmarks compute from what they measured, by hand."""

from __future__ import annotations

import ast
import re
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from benchmarks_loaded import ROOT, benchmark

from sign_ensemble.core.config import Config
from sign_ensemble.data.backbone import FIFTH_FEATURES, HEAD_FEATURES
from sign_ensemble.data.row_cache import CachedArray
from sign_ensemble.learning.network import Head
from sign_ensemble.learning.task import Task


def test_a_stack_belongs_to_the_innermost_part_that_is_named() -> None:
    part_of = benchmark("where").part_of
    fit = "main (sign_ensemble/tune.py:3);fit (sign_ensemble/learning/training_loop.py:9)"
    assert part_of(fit) == "heads: forward and backward"
    assert part_of(f"{fit};step (torch/optim/adamw.py:1)") == "optimizer's steps"
    fine_tuned = f"{fit};forward (sign_ensemble/learning/network.py:9)"
    assert part_of(f"{fine_tuned};every (sign_ensemble/data/convolutions.py:9)") == "convolutions"
    assert (
        part_of(f"{fit};_find_and_load (<frozen importlib._bootstrap>:1)") == "loading of modules"
    )
    assert (
        part_of("main (/site-packages/ray/_private/workers/default_worker.py:1)")
        == "Ray and Optuna"
    )
    assert part_of("run (threading.py:1)") == "everything else"


NO_MEASURE = {"summary", "scaling"}  # made from the results of others
NO_QUESTION = {"tables", "sheets", "hand_sheet"}


def test_a_file_is_a_question_of_one_shape() -> None:
    files = {path.stem: path for path in (ROOT / "benchmarks").glob("*.py")}
    for name in sorted(files.keys() - NO_QUESTION):
        tree = ast.parse(files[name].read_text(encoding="utf-8"))
        functions = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
        assert "table" in functions, name
        assert name in NO_MEASURE or "measure" in functions, name
    listed = (ROOT / "benchmarks" / "README.md").read_text(encoding="utf-8")
    commands = set(re.findall(r"python benchmarks/(\w+)\.py", listed))
    assert commands == files.keys()


def test_a_table_of_markdown() -> None:
    results = benchmark("shared/results")
    assert results.markdown(["", "n"], [["a", "1"]]) == "| | n |\n| --- | --- |\n| a | 1 |\n"
    assert results.spread([3.0, 1.0, 2.0], 1, " s") == "2.0 s (1.0–3.0)"
    assert results.spread([2.0], 0) == "2"
    assert results.mean_worst([0.5, 1.0], min) == "0.750 / 0.500"


def test_a_command_that_fails_says_why() -> None:
    seconds_of = benchmark("shared/commands").seconds_of
    assert 0 < seconds_of([sys.executable, "-c", "pass"]) < 60
    with pytest.raises(SystemExit, match=r"ended with 3:\nhello\n"):
        seconds_of([sys.executable, "-c", "print('hello'); raise SystemExit(3)"])


def test_what_a_doubling_multiplies() -> None:
    per_doubling = benchmark("growth").per_doubling
    jobs = [
        {"times": times, "seconds": seconds, "stages": {"rule": 1.0}}
        for times, seconds in ((1, 10.0), (2, 15.0), (8, 60.0))
    ]
    assert per_doubling(jobs, "") == pytest.approx([1.5, 2.0])  # fourfold in two doublings
    assert per_doubling(jobs, "rule") == [1.0, 1.0]


def test_a_model_of_scale_by_hand() -> None:
    scaling = benchmark("scaling")
    rates = {"first pass": [50.0], "limit": [100.0]}  # 2 cores: 20 ms beyond, 40 with a copy
    cases = ("640x480, no augmentation", "640x480, 1 augmented copy")
    found = {
        "features": {"pictures_per_second": dict.fromkeys(cases, rates)},
        "search": {
            "rounds": [{"this search": {"heads": 20, "shown": 3000}}],
            "images": "20 images",
            "trials": 10,
        },
        "overhead": {"figures": [{"by_the_clock": 0.5, "growth_tiny": 0.1}]},
        "prediction": {
            "images": 100,
            "answers": {
                "seconds": {"five members": [1.0, 1.0], "five members, all scores": [2.0, 2.0]}
            },
        },
        "gpu": {
            "convolutions": {"images in memory": [1000.0]},
            "heads": {"GPU, 32 rows": [1.0]},
            "finetuning": {"all, this loop": [100.0]},
            "hardware": "one",
        },
    }
    of = scaling.measured(found)
    assert (of.image, of.augmentation) == pytest.approx((0.02, 0.02))
    assert (of.epochs, of.heads) == (10.0, 2.0)  # 150 shown to a head of 15 images
    assert of.distances == pytest.approx(0.04)
    on = replace(scaling.ASSUMED, images=6000, trials=100, cores=4)
    config = Config()
    config = replace(
        config,
        data=replace(config.data, augmentations=1),
        search=replace(config.search, folds=6),
        member=replace(config.member, batch_size=50),
        ensemble=replace(config.ensemble, size=2),
        finetune=replace(config.finetune, epochs=5),
    )
    one = scaling.demands(of, 1, on, config)
    assert one["features"]["convolutions"] == 12.0
    assert one["features"]["decoding and augmentation"] == 60.0
    assert one["search"]["heads' steps"] == pytest.approx(100 * 2 * 10 * 5000 / 50 * 0.001)
    assert one["search"]["the driver"] == 50.0
    assert one["fine-tuning"]["steps"] == pytest.approx((2 + 6) * 5 * 6000 / 100)
    assert one["rule"]["the driver's cores"] == pytest.approx(6000 * 0.04 / 4)
    assert one["principal components"]["network"] == 0.0
    many = scaling.demands(of, 64, on, config)
    assert many["features"]["convolutions"] == 12 / 64
    assert many["fine-tuning"]["steps"] == one["fine-tuning"]["steps"] / 64
    assert many["fine-tuning"]["storage"] == 40 * 6000 * 150_528 / 2e9
    assert many["rule"]["the driver's cores"] == one["rule"]["the driver's cores"] / 8  # a node
    assert many["principal components"]["network"] > 0
    assert "**60 s**" in scaling.table(found, on, config)


def test_reliability_of_signs_and_as_many_wrong_gestures() -> None:
    """Two signs weigh a quarter each, the only gesture a half: at .95 and .97 are one right sign
    and the gesture, so a third of that weight is right.
    """
    confidence = benchmark("confidence")
    seen = {
        "kind": np.array(["known", "known", "near", "far"]),
        "confidence": np.array([0.95, 0.3, 0.97, 1.0]),
        "right": np.array([True, False, False, False]),
    }
    low, high = confidence.reliability([seen], "confidence")
    assert low == {"from": 0.0, "share": 0.25, "mean": pytest.approx(0.3), "right": 0.0}
    assert (high["from"], high["share"]) == (0.95, 0.75)
    assert high["mean"] == pytest.approx((0.25 * 0.95 + 0.5 * 0.97) / 0.75)
    assert high["right"] == pytest.approx(1 / 3)


def test_shares_that_are_accepted_and_confident() -> None:
    confidence = benchmark("confidence")
    seen = {
        "kind": np.array(["known", "known", "near", "near", "far"]),
        "accepted": np.array([True, True, True, False, False]),
        "probability": np.array([0.95, 0.95, 0.95, 0.95, 0.95]),
        "confidence": np.array([0.9, 0.5, 0.5, 0.95, 0.95]),
        "in_distribution": np.array([0.9, 0.9, 0.9, 0.95, 0.95]),
    }
    # gestures accepted, probable, confident, in-distribution; signs the same; far
    assert confidence.shares(seen) == [0.5, 0.5, 0.0, 0.5, 1.0, 1.0, 0.5, 1.0, 0.0]


def test_the_tutorials_settings_are_measured_on_the_layer_that_it_reads(tmp_path: Path) -> None:
    # a fault once found: heads of this package read the third layer too, the tutorial's do not
    labels_N, folds_N = np.tile([0, 1], 6), np.repeat([0, 1], 6)
    values = np.random.default_rng(0).random((12, 1, HEAD_FEATURES)).astype(np.float16)
    best = {"h1": 4, "h2": 4, "dropout": 0.0, "learning_rate": 1e-3}

    def nll(name: str) -> float:
        (tmp_path / name).write_bytes(values.tobytes())
        features = CachedArray(str(tmp_path / name), np.arange(12), (1, HEAD_FEATURES), "float16")
        task = Task(features, labels_N, folds_N, ("ada", "ben"), ("a", "b"), 0)
        return float(benchmark("search").nll_of_tutorial(best, 1, task, 0))

    before = nll("before")
    assert 0 < before < 2 * np.log(26)  # a head of 26 letters that has hardly learned
    values[..., FIFTH_FEATURES:] = 0
    assert nll("after") == before


def test_curves_of_the_comparison_by_hand() -> None:
    """Ten signs of scores 1 to 10, the last misread; gestures at 0.5 and 9.5; one far image."""
    comparison = benchmark("shared/comparison_plot")
    scores = {
        "known": np.arange(1.0, 11.0),
        "wrong-gesture": np.array([0.5, 9.5]),
        "blank": np.array([20.0]),
        "noise": np.array([20.0, 3.5]),
    }
    found = comparison.curves(scores, np.arange(10) == 9)
    at = {round(float(share), 2): number for number, share in enumerate(comparison.COVERAGES)}
    # the first of twelve is a gesture; of the first eleven two are; at last a misread sign comes in
    assert found["risk"][at[0.05]] == pytest.approx(1.0)
    assert found["risk"][at[0.9]] == pytest.approx(2 / 11, abs=1e-4)
    assert found["risk"][at[1.0]] == pytest.approx(3 / 12)
    share = {round(float(each), 2): number for number, each in enumerate(comparison.SIGNS)}
    assert found["near"][share[0.5]] == 0.5
    assert found["near"][share[1.0]] == 1.0
    assert found["far"][share[0.5]] == found["far"][share[1.0]] == pytest.approx((0 + 0.5) / 2)
    twice = comparison.mean_curves(
        [{"curves": found}, {"curves": {k: [0.0] * len(v) for k, v in found.items()}}]
    )
    assert twice["near"][share[1.0]] == 0.5


def test_losses_that_make_members_disagree_by_hand() -> None:
    ways = benchmark("shared/disagreeing")
    normed = ways.normed(torch.tensor([[3.0, 4.0], [0.3, 0.4]]))  # of any length the same
    assert normed.numpy() == pytest.approx(np.array([[15.0, 20.0], [15.0, 20.0]]), rel=1e-4)
    others = torch.tensor([[[0.8, 0.2], [0.4, 0.6]]])  # one network's: its answers are 0, then 1
    same = torch.log(torch.tensor([[0.8, 0.2], [0.4, 0.6]]))
    against = torch.log(torch.tensor([[0.2, 0.8], [0.6, 0.4]]))
    by_hand = ((0.32, 0.48), (0.68, 0.52))  # p (1 - q) + q (1 - p) of each image
    for logits, agreed in zip((same, against), by_hand, strict=True):
        assert float(ways.d_bat_loss(logits, others)) == pytest.approx(
            -np.log(agreed).mean(), abs=1e-5
        )


def test_a_random_prior_stays_as_it_was_drawn() -> None:
    ways = benchmark("shared/disagreeing")
    features = torch.rand(40, 6, generator=torch.Generator().manual_seed(0))
    head, drawn = (Head(6, (8, 8), 3, 0.5) for _ in range(2))
    network = ways.WithPrior(head, drawn, features)
    before = drawn.logits(features)
    assert float((network.scale * before).std()) == pytest.approx(ways.PRIOR, rel=1e-5)
    assert torch.equal(drawn.logits(features), before)  # no dropout in it
    network(features).sum().backward()
    assert all(value.grad is None for value in drawn.parameters())
    assert all(value.grad is not None for value in head.parameters())
