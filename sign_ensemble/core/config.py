"""Every setting, one frozen dataclass per group.

The commands read them from YAML and from dotted arguments (``--search.trials 40``), and show them
with ``--print_config``. Each default has its reason in the docstring. ``check.py`` refuses values
that parse but cannot work.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, Optional


class Name(str):
    """A label's or signer's name. Where YAML reads a number (``[5]``), the name is its digits."""


@dataclass(frozen=True)
class DataConfig:
    """Where the images are and who signed them.

    Args:
        root: Folder that holds the images.
        preset: A known folder layout (massey, surrey, isl-hs, signer-label, label). Used when
            neither pattern nor table is given; signer-label is ``<signer>/<label>/<file>``.
        pattern: Regular expression matched against the whole path below root, with the named
            groups ``label`` and ``signer``. Overrides preset.
        table: CSV or Parquet file with the columns path (relative to root, or to the table's own
            folder if no root is given), label and signer. Overrides pattern and preset.
        extra_signers: Folder of further signers, ``<signer>/<label>/<file>``, such as built-in ones, whose
            images fine-tuning learns from too. Nobody is judged on them, and nothing is chosen or
            calibrated by them.
        labels: The labels to learn; null learns every label found.
        near_labels: Labels never learned; those of test signers are the near set "wrong-gesture".
        signers: ``known`` demands a signer for every image. ``none`` accepts a set without signers:
            folds are then random images, and the figures say nothing about new people.
        test_signers: Signers held out for the final evaluation, by name.
        test_share: Share of signers (of images if signers is none) held out when test_signers is
            empty. 0.25 leaves at least two signers to train on for sets of three or more.
        seed: Draws the held-out signers of test_share; any whole number.
        size: Side in pixels of the square that the network sees. 224 is what AlexNet's
            convolutions were trained on.
        fit: How an image becomes a square: ``pad`` keeps all of it and its proportions, filling
            with the border's colour; ``squash`` stretches it; ``crop`` takes the middle.
        augmentations: Augmented copies of each training image (rotation, scale, shift, light, small
            perspective), computed once. More views cost disk (25 kB each) and one convolution.
        mirror: Whether views may be mirrored. Off: handedness can be meaning.
        max_pixels: Images with more pixels are set aside unread; guards against decompression
            bombs. 64 million is above any camera in use.
        min_side: Images with a shorter side, in pixels, are set aside; below 16 no hand can be
            read.
        weights: AlexNet's convolutions: ``shipped`` (ImageNet, inside the package), ``random``, or
            a safetensors file with torchvision's keys.
        cache: Folder or URI of computed features, shared by all runs; null is ``features`` beside
            the runs. Of what lies on an object store every machine keeps a copy in TMPDIR.
        engine: ``local`` computes features in this process, ``ray`` spreads them over the cluster
            with Ray Data, ``auto`` uses ray when the cluster has more than one node.
    """

    root: Optional[str] = None
    preset: Literal["massey", "surrey", "isl-hs", "signer-label", "label"] = "signer-label"
    pattern: Optional[str] = None
    table: Optional[str] = None
    extra_signers: Optional[str] = None
    labels: Optional[list[Name]] = None
    near_labels: list[Name] = field(default_factory=list)
    signers: Literal["known", "none"] = "known"
    test_signers: list[Name] = field(default_factory=list)
    test_share: float = 0.25
    seed: int = 0
    size: int = 224
    fit: Literal["pad", "squash", "crop"] = "pad"
    augmentations: int = 4
    mirror: bool = False
    max_pixels: int = 64_000_000
    min_side: int = 16
    weights: str = "shipped"
    cache: Optional[str] = None
    engine: Literal["auto", "local", "ray"] = "auto"


@dataclass(frozen=True)
class MemberConfig:
    """One network's recipe; also the search's first trial.

    Args:
        widths: Units of the two hidden layers, (h1, h2). The default recipe's 1024 and 512.
        dropout: Share of hidden units dropped in training, 0 to below 1.
        learning_rate: Adam's step size.
        weight_decay: Decoupled decay per step, on weight matrices only; 0 is plain Adam.
        label_smoothing: Share of the target spread evenly over all labels, 0 to below 1.
        augment_prob: Share of images that each epoch replaces by one of their augmented views; 0 is
            the plain images, as in the default recipe.
        batch_size: Images per step.
        epochs: Passes over the training images, at most.
        validation_share: Share of training images kept back to stop early; 0 trains all epochs.
        patience: Epochs without a better loss on those images before training stops.
        components: The first layer learns along at most so many principal directions of the
            training features, which a few hundred images span anyway; 0 learns along all features,
            which takes longer and reads strangers no better.
        bootstrapped: Whether each network learns from as many of its training images drawn with
            replacement (bagging, Breiman 1996), so that members differ in what they saw.
        seed: Seed of a single training (``train``); a search derives its own from search.seed.
    """

    widths: tuple[int, int] = (1024, 512)
    dropout: float = 0.5
    learning_rate: float = 1e-4
    weight_decay: float = 0.0
    label_smoothing: float = 0.0
    augment_prob: float = 0.0
    batch_size: int = 32
    epochs: int = 10
    validation_share: float = 0.1
    patience: int = 3
    components: int = 512
    bootstrapped: bool = False
    seed: int = 0


@dataclass(frozen=True)
class SearchConfig:
    """Which hyperparameters are tried, and with what means.

    Args:
        trials: How many settings are tried, the default recipe first.
        trial: What a trial trains, fold by fold: ``head`` on frozen features, in seconds, or
            ``finetune``, the convolutions too, by Ray Train, in minutes (with finetune.layers; the
            means are those of scale).
        objective: What settings are chosen by, on signers whom their models had not seen:
            ``nll``, the loss; or ``nll+augrc``, two objectives: the loss, and the chance that a
            misread sign or a self-made negative is answered. Optuna then samples for both, and the
            best are those than which no other is as good in both and better in one. Trials are
            stopped by the loss in either case.
        time_budget: Seconds after which this call stops starting and running trials; null is none.
        concurrent: Trials at once; null is as many as the cluster's CPUs and GPUs hold when the
            search starts. With 1 it is repeatable to the bit. More than the cluster holds wait for
            room, which a cluster that scales by itself then makes.
        cpus_per_trial: CPU threads of one trial; one thread each keeps all cores busy best.
        gpus_per_trial: GPU share of one trial, for example 0.25; 0 trains on the CPU.
        seed: Seeds the sampler and every trial.
        folds: Most folds per trial. With more training signers than this, signers share folds.
        reduction: After fold 1, 2, 4, ... a trial goes on only if it is among the best 1/reduction
            seen at that fold; 2 is the mildest halving.
        max_failures: Times a trial that lost its machine is started again.
        dropout: Range tried, uniform.
        learning_rate: Range tried, log-uniform.
        weight_decay: Range tried, log-uniform.
        label_smoothing: Range tried, uniform; more than 0.1 hides how sure a member is.
        augment_prob: Range tried, uniform; views are what a new signer's tilt and light look like.
        backbone_rate: Range tried for the convolutions' step size, log-uniform (trial finetune).
        epochs: Numbers tried; with views it takes more than the default recipe's to learn them.
        batch_size: Sizes tried.
        h1: Widths tried for the first hidden layer.
        h2: Widths tried for the second hidden layer.
    """

    trials: int = 16
    trial: Literal["head", "finetune"] = "head"
    objective: Literal["nll", "nll+augrc"] = "nll"
    time_budget: Optional[float] = None
    concurrent: Optional[int] = None
    cpus_per_trial: int = 1
    gpus_per_trial: float = 0.0
    seed: int = 0
    folds: int = 6
    reduction: int = 2
    max_failures: int = 2
    dropout: tuple[float, float] = (0.2, 0.8)
    learning_rate: tuple[float, float] = (3e-5, 1e-3)
    weight_decay: tuple[float, float] = (1e-6, 1e-1)
    label_smoothing: tuple[float, float] = (0.0, 0.1)
    augment_prob: tuple[float, float] = (0.3, 1.0)
    backbone_rate: tuple[float, float] = (5e-5, 5e-4)
    epochs: tuple[int, ...] = (15, 25)
    batch_size: tuple[int, ...] = (32, 64)
    h1: tuple[int, ...] = (256, 512, 1024)
    h2: tuple[int, ...] = (128, 256, 512)

    @property
    def objectives(self) -> list[str]:
        """The names of ``objective``."""
        return self.objective.split("+")


@dataclass(frozen=True)
class EnsembleConfig:
    """Which trials become members, and on what they are trained.

    Args:
        size: Members at most (greedy may weight one several times). Three, since a fine-tuned
            member costs minutes; of heads, which cost seconds, configs/frozen.yaml takes five.
        method: ``top_k`` takes the best trials by the objective; ``greedy`` adds, with replacement,
            the one that most lowers what ``lowers`` names, on unseen signers.
        lowers: ``nll``, the ensemble's loss; or ``augrc``, the chance that the usual rule of heads
            answers a misread sign or hands joined from two.
        members: ``refit`` trains each setting again on all training signers, for as many epochs as
            were best in its folds; ``folds`` uses the models of the trials' own folds, each of
            which has missed a signer. Fine-tuned members are likewise trained on all training
            signers, or are the networks, one per fold, that the rule is calibrated on anyway.
        gda: Whether Gaussians of each label in frozen features read beside the members:
            ``auto`` lets them count as much as lowers the loss on unseen signers most, perhaps
            nothing; ``none`` leaves the members alone. They cost seconds, and on few signers they
            read strangers better than heads do.
    """

    size: int = 3
    method: Literal["top_k", "greedy"] = "top_k"
    lowers: Literal["nll", "augrc"] = "nll"
    members: Literal["refit", "folds"] = "refit"
    gda: Literal["auto", "none"] = "auto"


@dataclass(frozen=True)
class FinetuneConfig:
    """The second stage: each member's convolutions learn too, from its trained head on.

    Args:
        layers: Which convolutions learn: ``none`` (members are heads on frozen features, without
            a GPU minutes instead of up to half an hour for 2,000 images), ``last`` (the fifth),
            ``conv3+`` or ``all``. Fewer learn faster; all read strangers best.
        epochs: Passes over the training images; few, since everything begins trained.
        learning_rate: AdamW's highest step size for the head.
        backbone_rate: The same for the convolutions.
        weight_decay: Decoupled decay per step, on weight matrices only.
        warmup: Share of all steps in which the step size rises to its highest; it then falls to
            nothing along a cosine.
        clip: Longest gradient over all weights; longer ones are shortened to it.
        batch_size: Images per step over all workers together.
        augment_prob: Share of images that each epoch replaces by a fresh augmented view.
    """

    layers: Literal["none", "last", "conv3+", "all"] = "all"
    epochs: int = 12
    learning_rate: float = 4e-4
    backbone_rate: float = 1e-4
    weight_decay: float = 1e-2
    warmup: float = 0.1
    clip: float = 5.0
    batch_size: int = 64
    augment_prob: float = 1.0


@dataclass(frozen=True)
class ScaleConfig:
    """How fine-tuning is spread over a cluster; what comes out does not depend on it.

    Args:
        workers: Processes that share each step of one training: a number, or ``1:4`` for as many
            as the cluster has room for, from 1 to 4.
        cpus_per_worker: CPU threads of one; null shares the cluster's CPUs among those that train
            at once.
        gpus_per_worker: GPU share of one, for example 1 or 0.5; 0 trains on the CPU. null is a GPU
            each where the cluster has any, or an even share of them where they are too few.
        concurrent: Members trained side by side; null is as many as there are GPUs for, on CPUs one.
        micro_batch: Images of a step that one worker holds at a time; less needs less memory.
        checkpoint_minutes: A checkpoint is written after every epoch, and whenever the last is
            this old.
        max_failures: Times a training that lost a worker goes on from its last checkpoint.
    """

    workers: str = "1"
    cpus_per_worker: Optional[int] = None
    gpus_per_worker: Optional[float] = None
    concurrent: Optional[int] = None
    micro_batch: int = 64
    checkpoint_minutes: float = 5.0
    max_failures: int = 3

    @property
    def least_and_most(self) -> tuple[int, int] | None:
        """Fewest and most workers; None if ``workers`` is neither a number nor two."""
        parts = self.workers.split(":")
        if len(parts) > 2 or not all(part.isdecimal() for part in parts):
            return None
        least, most = int(parts[0]), int(parts[-1])
        return (least, most) if 1 <= least <= most else None


@dataclass(frozen=True)
class RejectionConfig:
    """When an image gets no answer.

    Args:
        target_coverage: Share of a new signer's real signs that should be answered, 0 to 1 exclusive.
        max_error: Largest share of errors among the answered, 0 to 1 exclusive; signs that are not
            read surely enough for it are refused too, beyond what keep refuses. null promises
            nothing of errors: how many signs it costs depends on how well strangers are read.
        uncertainty_share: Share of what keep refuses that goes to signs which are read unsurely (by total
            uncertainty); the rest goes to what is strange. 0 asks only whether an image is strange.
            Where total_uncertainty is among the witnesses it speaks there, and this is not used.
        combination: ``auto`` chooses on training signers and self-made negatives; otherwise
            witnesses joined by + (total_uncertainty, disagreement, energy, max_logit, neighbour,
            relative_mahalanobis, part_mahalanobis, no_hand, two_hands and, of fine-tuned
            members, own_mahalanobis; and, never chosen automatically, generalised_entropy, sirc and
            feature_norm).
        joined: How several witnesses are joined when combination is not auto: ``smallest`` p-value,
            ``fisher`` sum of logs, or ``guarded``: as smallest, but the last one named is a guard
            that counts only what lies beyond all calibration images; so are no_hand and two_hands.
        neighbours: The k of the k-th nearest training image.
        reference_images: Most training images kept for the witnesses that measure distances; a stratified draw
            of more.
        negatives: Self-made negatives of each kind, at most, per training signer.
        hand_count_images: Pictures without a sign, with one and with two, so many of each, made of each
            training signer's signs, that no_hand and two_hands learn from; 0: neither is there.
        held_out_groups: Times that a fifth of the labels is left out of the training, so that those
            labels' images stand for wrong gestures when the witnesses are chosen and confidence is
            worked out; 0 to 5. Each trains one network per fold, unless only distances decide.
        ood_prior: Share of the images shown that are no sign, as the confidence of an answer
            assumes it, 0 to 1 exclusive: nobody knows it beforehand. 0 leaves confidence what it
            is if every image is a sign.
    """

    target_coverage: float = 0.95
    max_error: Optional[float] = None
    uncertainty_share: float = 0.5
    combination: str = "auto"
    joined: Literal["smallest", "fisher", "guarded"] = "smallest"
    neighbours: int = 5
    reference_images: int = 4000
    negatives: int = 60
    hand_count_images: int = 100
    held_out_groups: int = 3
    ood_prior: float = 0.5


@dataclass(frozen=True)
class EvaluateConfig:
    """What the finished ensemble is shown.

    Args:
        near: Further near sets (wrong gestures), name: folder or glob pattern.
        far: Further far sets (no sign to read), name: folder or glob pattern.
        images: Images of each built-in far set.
        bootstrap: Draws behind every interval; 500 settles two digits of a 95 % interval.
        seed: Seeds the built-in sets and the bootstrap.
        again: Read the test signers once more although metrics.json exists; the count of readings
            is kept in it.
    """

    near: dict[str, str] = field(default_factory=dict)
    far: dict[str, str] = field(default_factory=dict)
    images: int = 300
    bootstrap: int = 500
    seed: int = 0
    again: bool = False


@dataclass(frozen=True)
class RunConfig:
    """Where results are written.

    Args:
        root: Folder of all runs.
        name: Folder of this run there; null derives it from the data and the settings, so that
            the same command finds its own run again.
        storage: Where all runs lie instead of root, on storage that pyarrow reaches:
            ``s3://bucket/folder``, ``gs://bucket/folder``, a path. Credentials come from the
            environment. null is root.
    """

    root: str = "runs"
    name: Optional[str] = None
    storage: Optional[str] = None


@dataclass(frozen=True)
class WandbConfig:
    """Logging to Weights & Biases.

    Args:
        mode: ``online``, ``offline`` (files to sync later) or ``disabled``. Without a key or a
            network, online becomes offline and says so once.
        project: Project name there.
        entity: User or team there; null is your default.
    """

    mode: Literal["online", "offline", "disabled"] = "online"
    project: str = "sign_ensemble"
    entity: Optional[str] = None


@dataclass(frozen=True)
class Config:
    """All groups of one run."""

    data: DataConfig = field(default_factory=DataConfig)
    member: MemberConfig = field(default_factory=MemberConfig)
    search: SearchConfig = field(default_factory=SearchConfig)
    ensemble: EnsembleConfig = field(default_factory=EnsembleConfig)
    finetune: FinetuneConfig = field(default_factory=FinetuneConfig)
    scale: ScaleConfig = field(default_factory=ScaleConfig)
    rejection: RejectionConfig = field(default_factory=RejectionConfig)
    evaluate: EvaluateConfig = field(default_factory=EvaluateConfig)
    run: RunConfig = field(default_factory=RunConfig)
    wandb: WandbConfig = field(default_factory=WandbConfig)
