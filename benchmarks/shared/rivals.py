"""Other libraries' ways to detect OOD images, on heads trained as this project's members are.

A rival gives scores, higher = reject, of every set, and its answers to the unseen signer's signs.

Letters: N images, M passes or networks, D features, U hidden units of the last layer, K labels,
G negatives, P principal components.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from tempfile import NamedTemporaryFile
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import softmax
from sklearn.decomposition import PCA
from torch import nn

from shared.heads import energy, entropy, mutual_information
from shared.unseen_signer import KNOWN
from sign_ensemble.core.config import MemberConfig
from sign_ensemble.data.backbone import HEAD_FEATURES
from sign_ensemble.data.row_cache import CachedArray
from sign_ensemble.learning.end_to_end import images_of_rows, network_parts
from sign_ensemble.learning.head_training import fit_rows
from sign_ensemble.learning.member import Member
from sign_ensemble.learning.network import Head, logits_of
from sign_ensemble.learning.task import PixelTask, Task, seed_of
from sign_ensemble.learning.training_loop import FeatureBatches

RECIPE = MemberConfig(validation_share=0.0, augment_prob=0.8, components=0)
RECIPES = [
    RECIPE,
    replace(RECIPE, widths=(512, 256), learning_rate=2e-4),
    replace(RECIPE, widths=(1024, 256), dropout=0.3),
    replace(RECIPE, widths=(512, 512), dropout=0.6),
    replace(RECIPE, widths=(256, 128), dropout=0.4, learning_rate=3e-4),
]
PASSES = 20  # of Monte-Carlo dropout
COMPONENTS = 200  # principal components of the convolutions' features
BAYES_COMPONENTS = 512  # that Bayes-by-Backprop reads: a step samples every weight
BAYES_RATE = 1e-3  # its means begin at noise of .1, far from the solution
NEIGHBOURS = 5
OPERATORS: list[Any] = []  # torch forgets operators that nobody holds
Scores = dict[str, NDArray[np.float64]]
Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
Found = tuple[NDArray[np.int64], Scores]  # answers to the signs; scores by set


@dataclass(frozen=True)
class Shown:
    """What a rival may learn from, and what it predicts.

    Args:
        task: The training signers' features, with augmented copies, and labels.
        negatives_GD: Features of pictures of no hand and of two, made of training signers' signs.
        features: Set → features (N, D); the unseen signer's signs are KNOWN.
        plain_ND: Features of the training images without augmentation.
        seed: Seeds everything.
    """

    task: Task
    negatives_GD: NDArray[np.float16]
    features: Mapping[str, NDArray[np.float16]]
    plain_ND: NDArray[np.float16]
    seed: int

    @property
    def rows(self) -> NDArray[np.int64]:
        """All training images."""
        return np.arange(len(self.task.labels_N))

    def each(self, of: Callable[[torch.Tensor], Any]) -> dict[str, Any]:
        """A function of every set's features, which it is given as float32."""
        with torch.no_grad():
            return {name: of(as_tensor(values)) for name, values in self.features.items()}


def as_tensor(values: NDArray[Any]) -> torch.Tensor:
    """float32."""
    return torch.from_numpy(np.asarray(values)).float()


def let_torchvision_load() -> None:
    """PyPI's torchvision is built for CUDA; with a CPU build of torch it stops at two operators
    of which only the names are needed.
    """
    try:
        importlib.import_module("torchvision")
    except RuntimeError:
        for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
            del sys.modules[name]
        library: Any = torch.library.Library
        names = library("torchvision", "FRAGMENT")
        for name in ("nms", "qnms"):
            names.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        OPERATORS.append(names)


def sirc(unsure_N: NDArray[Any], norm_N: NDArray[Any], own_N: NDArray[Any]) -> NDArray[np.float64]:
    """(1 − max_k p_k) (1 + exp(−(s − μ) / σ − 3)), s the feature norm, μ and σ of training images
    (Xia & Bouganis 2022, arXiv 2207.07506).
    """
    standard_N = (norm_N - own_N.mean()) / own_N.std()
    return np.asarray(unsure_N * (1 + np.exp(np.minimum(-standard_N - 3, 100.0))), np.float64)


def of_one_model(shown: Shown, head: Head, name: str = "one model") -> Iterator[tuple[str, Found]]:
    """pytorch-ood's detectors, with its defaults where it has any."""
    from pytorch_ood import detector as ood

    logits = shown.each(head.logits)
    answers = logits[KNOWN].argmax(-1).numpy()
    below, last = head.layers[:5], head.layers[6]
    assert isinstance(last, nn.Linear)
    units, labels_N = shown.each(below), torch.from_numpy(shown.task.labels_N)
    with torch.no_grad():
        units_NU = below(as_tensor(shown.plain_ND))

    def scored(by: Callable[[Any], Any], of: Mapping[str, Any]) -> Found:
        with torch.no_grad():
            return answers, {key: np.asarray(by(x), np.float64) for key, x in of.items()}

    for way, by in {
        "MSP": ood.MaxSoftmax.score,
        "energy": ood.EnergyBased.score,
        "max-logit": ood.MaxLogit.score,
        "GEN": ood.GEN.score,
    }.items():
        yield f"{name}: {way}", scored(by, logits)
    norms = {key: x.abs().sum(-1).numpy() for key, x in units.items()}
    own_N = units_NU.abs().sum(-1).numpy()
    yield f"{name}: feature norm", (answers, {key: -norm_N for key, norm_N in norms.items()})
    unsure = {key: 1 - softmax(x.numpy(), -1).max(-1) for key, x in logits.items()}
    yield (
        f"{name}: SIRC",
        (answers, {key: sirc(unsure[key], norms[key], own_N) for key in norms}),
    )
    fitted = {
        "ViM": ood.ViM(None, d=units_NU.shape[1] // 2, w=last.weight, b=last.bias),
        "Mahalanobis": ood.Mahalanobis(None),
        "relative Mahalanobis": ood.RMD(None),
        "kNN": ood.KNN(None, k=NEIGHBOURS),
    }
    for way, detector in fitted.items():
        detector.fit_features(units_NU, labels_N)
        yield f"{name}: {way}", scored(detector.predict_features, units)
    react = ood.ReAct(backbone=nn.Identity(), head=last)
    react.fit_feature_maps(units_NU, labels_N)
    yield f"{name}: ReAct", scored(react.predict_feature_maps, units)
    ash = ood.ASH(backbone=nn.Identity(), head=lambda maps: last(maps.flatten(1)))
    maps = {key: x[:, :, None, None] for key, x in units.items()}
    yield f"{name}: ASH", scored(ash.predict_feature_maps, maps)
    pca = PCA(COMPONENTS, random_state=shown.seed).fit(shown.plain_ND.astype(np.float32))
    frozen = shown.each(lambda x: torch.from_numpy(pca.transform(x.numpy())).float())
    own_NP = torch.from_numpy(pca.transform(shown.plain_ND.astype(np.float32))).float()
    for way, far in {
        "Mahalanobis, convolutions": ood.Mahalanobis(None),
        "relative Mahalanobis, convolutions": ood.RMD(None),
    }.items():
        far.fit_features(own_NP, labels_N)
        yield f"{name}: {way}", scored(far.predict_features, frozen)
    nearest = ood.KNN(None, k=NEIGHBOURS)
    nearest.fit_features(as_tensor(shown.plain_ND), labels_N)
    yield (
        f"{name}: kNN, convolutions",
        scored(nearest.predict_features, shown.each(lambda x: x)),
    )


def of_several(name: str, logits: Mapping[str, NDArray[np.float32]]) -> Iterator[tuple[str, Found]]:
    """Entropy, mutual information and mean energy of several networks' logits (M, N, K)."""
    answers_N = softmax(logits[KNOWN], -1).mean(0).argmax(-1)
    for score, by in {
        "entropy": entropy,
        "mutual information": mutual_information,
        "energy": energy,
    }.items():
        yield f"{name}: {score}", (answers_N, {key: by(each) for key, each in logits.items()})


def ensemble(shown: Shown, heads: list[Head]) -> dict[str, NDArray[np.float32]]:
    """Logits of heads by set."""
    return {
        name: np.stack([logits_of(head, values) for head in heads])
        for name, values in shown.features.items()
    }


def bootstrapped(shown: Shown) -> list[Head]:
    """Heads of which each has learned from as many images, drawn with replacement."""
    rng = np.random.default_rng(shown.seed)
    return [
        fit_rows(shown.task, recipe, rng.choice(shown.rows, len(shown.rows)), seed)[0]
        for recipe, seed in zip(RECIPES, (seed_of(shown.seed, 1, i) for i in range(5)), strict=True)
    ]


def monte_carlo_dropout(shown: Shown, head: Head) -> dict[str, NDArray[np.float32]]:
    """torch-uncertainty's: PASSES passes with dropout on."""
    from torch_uncertainty.methods import mc_dropout

    class Logits(nn.Module):
        """The head without its softmax."""

        def __init__(self) -> None:
            super().__init__()
            self.layers = head.layers

        def forward(self, features_ND: torch.Tensor) -> torch.Tensor:
            """Logits."""
            found: torch.Tensor = self.layers(features_ND)
            return found

    wrapped = mc_dropout(Logits(), PASSES, on_batch=False).eval()
    found = shown.each(wrapped)
    head.eval()
    return {key: x.reshape(PASSES, -1, x.shape[-1]).numpy() for key, x in found.items()}


def packed(shown: Shown) -> dict[str, NDArray[np.float32]]:
    """torch-uncertainty's packed ensemble: four heads in one of twice the width."""
    from torch_uncertainty.layers import PackedLinear

    four, (h1, h2), labels = 4, RECIPE.widths, len(shown.task.labels)
    torch.manual_seed(shown.seed)
    network = nn.Sequential(
        PackedLinear(HEAD_FEATURES, h1, 2, four, first=True), nn.ReLU(), nn.Dropout(RECIPE.dropout),
        PackedLinear(h1, h2, 2, four), nn.ReLU(), nn.Dropout(RECIPE.dropout),
        PackedLinear(h2, labels, 2, four, last=True),
    )  # fmt: skip

    def loss(inputs: torch.Tensor, labels_N: torch.Tensor) -> torch.Tensor:
        return nn.functional.cross_entropy(network(inputs), labels_N.repeat(four))

    trained(shown, network, loss)
    return {key: x.reshape(four, -1, labels).numpy() for key, x in shown.each(network).items()}


def trained(
    shown: Shown, network: nn.Module, loss: Loss, rate: float | None = None, half: bool = False
) -> None:
    """Train a network by the members' recipe, in bf16 if wanted."""
    batches = FeatureBatches(
        shown.task.features.open(), shown.task.features.row_N, shown.task.labels_N,
        RECIPE.batch_size, RECIPE.augment_prob, np.random.default_rng(shown.seed),
    )  # fmt: skip
    optimizer = torch.optim.Adam(network.parameters(), rate or RECIPE.learning_rate)
    for epoch in range(1, RECIPE.epochs + 1):
        for (piece,) in batches.epoch(epoch, 0):
            optimizer.zero_grad()
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=half):
                found = loss(piece.inputs[0].float(), piece.labels_N)
            found.backward()
            optimizer.step()
    network.eval()


class Projected(nn.Module):
    """Features in the training images' first principal components, of mean variance 1."""

    def __init__(self, shown: Shown) -> None:
        super().__init__()
        pca = PCA(BAYES_COMPONENTS, svd_solver="randomized", random_state=shown.seed)
        found_NP = pca.fit_transform(shown.plain_ND.astype(np.float32))
        self.mean_D = torch.from_numpy(pca.mean_).float()
        self.onto_DP = torch.from_numpy(pca.components_.T / found_NP.std(0).mean()).float()

    def forward(self, features_ND: torch.Tensor) -> torch.Tensor:
        """Coordinates."""
        return (features_ND - self.mean_D) @ self.onto_DP


def bayes_by_backprop(shown: Shown) -> dict[str, NDArray[np.float32]]:
    """torch-uncertainty's Bayesian layers and evidence bound; PASSES draws of the weights."""
    from torch_uncertainty.layers.bayesian import BayesLinear
    from torch_uncertainty.losses import ELBOLoss

    (h1, h2), labels = RECIPE.widths, len(shown.task.labels)
    torch.manual_seed(shown.seed)
    network = nn.Sequential(
        Projected(shown), BayesLinear(BAYES_COMPONENTS, h1), nn.ReLU(),
        BayesLinear(h1, h2), nn.ReLU(), BayesLinear(h2, labels),
    )  # fmt: skip
    share = 1 / len(shown.rows)
    bound = ELBOLoss(network, nn.CrossEntropyLoss(), kl_weight=share, num_samples=1)
    trained(shown, network, bound, BAYES_RATE)
    return several(shown, network)


def several(shown: Shown, network: nn.Module) -> dict[str, NDArray[np.float32]]:
    """Logits of PASSES passes of a network that answers stochastically."""
    passes = [shown.each(network) for _ in range(PASSES)]
    return {key: np.stack([each[key].numpy() for each in passes]) for key in shown.features}


def monte_carlo_batch_norm(shown: Shown) -> dict[str, NDArray[np.float32]]:
    """torch-uncertainty's: PASSES passes, each normed by another training batch's statistics."""
    from torch.utils.data import DataLoader, TensorDataset
    from torch_uncertainty.post_processing import MCBatchNorm

    (h1, h2), labels = RECIPE.widths, len(shown.task.labels)
    torch.manual_seed(shown.seed)
    network = nn.Sequential(
        nn.Linear(HEAD_FEATURES, h1), nn.Unflatten(1, (h1, 1, 1)), nn.BatchNorm2d(h1),
        nn.ReLU(), nn.Flatten(),
        nn.Linear(h1, h2), nn.Unflatten(1, (h2, 1, 1)), nn.BatchNorm2d(h2), nn.ReLU(), nn.Flatten(),
        nn.Linear(h2, labels),
    )  # fmt: skip
    trained(shown, network, lambda x, y: nn.functional.cross_entropy(network(x), y))
    wrapped = MCBatchNorm(network, num_estimators=PASSES, mc_batch_size=32)
    own = TensorDataset(as_tensor(shown.plain_ND), torch.from_numpy(shown.task.labels_N))
    with torch.no_grad():
        wrapped.fit(DataLoader(own, batch_size=32, shuffle=True))
    wrapped.eval()
    found = shown.each(wrapped)
    return {key: x.reshape(PASSES, -1, labels).numpy() for key, x in found.items()}


def another_class(shown: Shown) -> Found:
    """One model with a class more, learned from the negatives; its probability rejects."""
    task = shown.task
    features_RVD = task.features.open()
    signs_NVD = features_RVD[task.features.row_N]
    negatives_GVD = np.repeat(shown.negatives_GD[:, None], signs_NVD.shape[1], 1)
    both = np.concatenate([signs_NVD, negatives_GVD])
    with NamedTemporaryFile() as file:
        both.tofile(file.name)
        more = len(shown.negatives_GD)
        other = replace(
            task,
            features=CachedArray(file.name, np.arange(len(both)), both.shape[1:], "float16"),
            labels_N=np.concatenate([task.labels_N, np.full(more, len(task.labels))]),
            folds_N=np.concatenate([task.folds_N, np.zeros(more, np.int64)]),
            labels=(*task.labels, "other"),
        )
        head, _ = fit_rows(other, RECIPE, np.arange(len(both)), seed_of(shown.seed, 2))
    probs = {key: softmax(logits_of(head, x), -1) for key, x in shown.features.items()}
    answers = probs[KNOWN][:, :-1].argmax(-1)
    return answers, {key: values[:, -1].astype(np.float64) for key, values in probs.items()}


def finetuned(
    shown: Shown, member: Member, images: Mapping[str, NDArray[np.uint8]], task: PixelTask
) -> Iterator[tuple[str, Found]]:
    """pytorch-ood's detectors on one of the run's own fine-tuned members."""
    layers, head = network_parts(member, task.weights)
    features = [layers.of_images(some).head_ND for some in images_of_rows(task, shown.rows)]
    sets = {name: layers.of_images(some).head_ND for name, some in images.items()}
    own = replace(shown, features=sets, plain_ND=np.concatenate(features))
    yield from of_one_model(own, head, "one fine-tuned model")


def rivals(shown: Shown) -> Iterator[tuple[str, Found]]:
    """Every rival's name, answers and scores."""
    heads = [
        fit_rows(shown.task, recipe, shown.rows, seed_of(shown.seed, 0, i))[0]
        for i, recipe in enumerate(RECIPES)
    ]
    yield from of_one_model(shown, heads[0])
    yield "one model with a class `other`", another_class(shown)
    yield from of_several("MC dropout", monte_carlo_dropout(shown, heads[0]))
    yield from of_several("MC batch norm", monte_carlo_batch_norm(shown))
    yield from of_several("Bayes by Backprop", bayes_by_backprop(shown))
    yield from of_several("packed ensemble", packed(shown))
    yield from of_several("bootstrapped ensemble", ensemble(shown, bootstrapped(shown)))
    yield from of_several("deep ensemble", ensemble(shown, heads))
