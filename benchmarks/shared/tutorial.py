"""The rival of search.py: a search as the tutorials of PyTorch, Ray Tune and Optuna show it.

    PYTHONPATH=benchmarks python -m shared.tutorial --data FOLDER --out tutorial.json

FOLDER is Massey's, ``<label>/hand<signer>_...jpeg``. Every epoch of every trial opens the files
with Pillow (what ImageFolder, Resize, ToTensor and Normalize do), passes them through AlexNet's
frozen convolutions and trains the head on the result: batches of 32, float32, Adam. One signer is
for validation. Ray Tune starts a process per trial, each on one CPU; OptunaSearch draws from the
ranges that ``tune`` draws from. ``--without-ray`` is the same objective in Optuna's own loop, one
trial after another on all cores. No trial is stopped early: the tutorials do not do that.

Writes to --out: seconds of the search itself, without the start of the process, and the best trial.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import optuna
import torch
from ray import tune
from ray.tune.search.optuna import OptunaSearch
from safetensors.torch import load
from torch import nn
from torch.utils.data import DataLoader, Dataset

from shared.pictures import torch_image
from sign_ensemble.data.backbone import FIFTH_FEATURES, weights_bytes
from sign_ensemble.data.convolutions import Convolutions

BATCH = 32
LETTERS = "abcdefghijklmnopqrstuvwxyz"
Loader = DataLoader[tuple[torch.Tensor, int]]


class Hands(Dataset[tuple[torch.Tensor, int]]):
    """The images of some signers: what ImageFolder with Resize, ToTensor and Normalize gives."""

    def __init__(self, data: Path, signers: Sequence[int]) -> None:
        self.files = sorted(p for s in signers for p in data.glob(f"[a-z]/hand{s}_*"))

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, i: int) -> tuple[torch.Tensor, int]:
        return torch_image(self.files[i]), LETTERS.index(self.files[i].parent.name)


class Plain(Convolutions):
    """The layers below torchvision's classifier, and no more."""

    def forward(self, images_N3HW: torch.Tensor) -> torch.Tensor:
        """Normalised images (N, 3, H, W) to the fifth layer's features (N, D)."""
        return self.avgpool(self.features(images_N3HW)).flatten(1)


def convolutions() -> nn.Module:
    """AlexNet's frozen convolutions with ImageNet's weights."""
    tensors = load(weights_bytes("shipped"))
    net = Plain()
    net.load_state_dict({k: v.float() for k, v in tensors.items() if k.startswith("features.")})
    return net.eval().requires_grad_(False)


def make_head(config: dict[str, Any]) -> nn.Module:
    """The classifier that replaces AlexNet's."""
    return nn.Sequential(
        nn.Linear(FIFTH_FEATURES, config["h1"]),
        nn.ReLU(),
        nn.Dropout(config["dropout"]),
        nn.Linear(config["h1"], config["h2"]),
        nn.ReLU(),
        nn.Dropout(config["dropout"]),
        nn.Linear(config["h2"], len(LETTERS)),
        nn.LogSoftmax(1),
    )


def learn(
    head: nn.Module, optimizer: torch.optim.Optimizer, frozen: nn.Module, loader: Loader
) -> None:
    """One epoch."""
    head.train()
    for images, labels in loader:
        with torch.no_grad():
            features = frozen(images)
        loss = nn.functional.nll_loss(head(features), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def loss_on(head: nn.Module, frozen: nn.Module, shown: Loader) -> float:
    """Mean −log p of the true label, nats."""
    head.eval()
    with torch.no_grad():
        losses = [
            nn.functional.nll_loss(head(frozen(images)), labels, reduction="sum")
            for images, labels in shown
        ]
    return float(sum(losses)) / len(shown.dataset)  # type: ignore[arg-type]  # Hands has a length


def train(config: dict[str, Any], report: Callable[[float], None]) -> float:
    """One trial: its loss on the validation signer, reported after every epoch too."""
    data = Path(config["data"])
    torch.manual_seed(config["seed"])
    others = [s for s in config["signers"] if s != config["validated"]]
    learned = DataLoader(Hands(data, others), BATCH, shuffle=True)
    shown = DataLoader(Hands(data, [config["validated"]]), BATCH)
    frozen, head = convolutions(), make_head(config)
    optimizer = torch.optim.Adam(head.parameters(), lr=config["learning_rate"])
    nll = float("nan")
    for _ in range(config["epochs"]):
        learn(head, optimizer, frozen, learned)
        nll = loss_on(head, frozen, shown)
        report(nll)
    return nll


def trial(config: dict[str, Any]) -> None:
    """What Ray Tune runs in a process of its own."""
    train(config, lambda nll: tune.report({"nll": nll}))


def with_ray(fixed: dict[str, Any], trials: int) -> tuple[dict[str, Any], float]:
    """Ray Tune with OptunaSearch: the best settings and their loss."""
    space = {
        "learning_rate": tune.loguniform(3e-5, 1e-3),
        "dropout": tune.uniform(0.2, 0.8),
        "h1": tune.choice([256, 512, 1024]),
        "h2": tune.choice([128, 256, 512]),
    }
    with TemporaryDirectory() as folder:
        tuner = tune.Tuner(
            tune.with_resources(trial, {"cpu": 1}),
            param_space={**space, **fixed},
            tune_config=tune.TuneConfig(
                metric="nll",
                mode="min",
                num_samples=trials,
                search_alg=OptunaSearch(seed=fixed["seed"]),
            ),
            run_config=tune.RunConfig(storage_path=folder, verbose=0),
        )
        found = tuner.fit()
        if found.errors:
            raise SystemExit(f"{len(found.errors)} trials failed, the first: {found.errors[0]}")
        best = found.get_best_result()
        return {name: best.config[name] for name in space}, float(best.metrics["nll"])


def without_ray(fixed: dict[str, Any], trials: int) -> tuple[dict[str, Any], float]:
    """Optuna's own loop: the best settings and their loss."""

    def objective(trial: optuna.Trial) -> float:
        chosen = {
            "learning_rate": trial.suggest_float("learning_rate", 3e-5, 1e-3, log=True),
            "dropout": trial.suggest_float("dropout", 0.2, 0.8),
            "h1": trial.suggest_categorical("h1", [256, 512, 1024]),
            "h2": trial.suggest_categorical("h2", [128, 256, 512]),
        }
        return train({**chosen, **fixed}, lambda nll: None)

    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=fixed["seed"]))
    study.optimize(objective, n_trials=trials)
    return study.best_params, study.best_value


def main() -> None:
    """Search and write."""
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="Massey's folder")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--signers", type=int, nargs="+", default=[1, 2, 3, 4])
    parser.add_argument("--validated", type=int, default=4, help="the signer for validation")
    parser.add_argument("--trials", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--without-ray", action="store_true")
    chosen = parser.parse_args()
    if min(chosen.trials, chosen.epochs) < 1:
        parser.error(f"--trials {chosen.trials} --epochs {chosen.epochs}: each must be 1 or more")
    for signer in chosen.signers:
        if not len(Hands(chosen.data, [signer])):
            parser.error(f"--data {chosen.data}: no letters of signer {signer} (a/hand{signer}_*)")
    if chosen.validated not in chosen.signers or len(chosen.signers) < 2:
        parser.error(
            f"--validated {chosen.validated}: one of at least two --signers, {chosen.signers}"
        )
    fixed = {
        "data": str(chosen.data.resolve()),
        "signers": chosen.signers,
        "validated": chosen.validated,
        "epochs": chosen.epochs,
        "seed": chosen.seed,
    }
    search = without_ray if chosen.without_ray else with_ray
    began = time.perf_counter()
    best, nll = search(fixed, chosen.trials)
    result = {"seconds": time.perf_counter() - began, "best": best, "nll": nll}
    chosen.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
