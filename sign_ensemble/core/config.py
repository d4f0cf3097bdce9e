"""Every setting, one frozen dataclass per group.

The commands read them from YAML and from dotted arguments (``--search.trials 40``) and show them
with ``--print_config``. The docstrings are the text of ``--help``: what a setting does and why its
default is what it is. A number's range stands in its type; ``config_checks.py`` checks it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal, Optional, get_args

from sign_ensemble.core.names import Name
from sign_ensemble.core.number_ranges import (
    Count,
    CountOrZero,
    NonNegative,
    Positive,
    Range,
    Share,
    ShareBelowOne,
    ShareBetween,
    TenOrMore,
    TwoOrMore,
)

Condition = Literal[  # a way of taking a picture otherwise, see docs/hands.md
    "background", "size", "turn", "cut", "light", "colour", "blur", "noise", "compression",
    "resolution",
]  # fmt: skip


@dataclass(frozen=True)
class DataConfig:
    """The images and who signed them.

    Args:
        root: Folder that holds the images.
        preset: A known folder layout, used when neither pattern nor table is given;
            signer-label is ``<signer>/<label>/<file>``.
        pattern: Regular expression for the full path below root, with the groups ``label`` and
            ``signer``. Overrides preset.
        table: CSV or Parquet file with the columns path (relative to root, or to the table's own
            folder if no root is given), label and signer. Overrides pattern and preset.
        extra_signers: Folder ``<signer>/<label>/<file>`` of signers, such as built-in ones, that
            only fine-tuning learns from: nothing is chosen, calibrated or evaluated on them.
        labels: The labels to learn; null learns every label found.
        near_labels: Labels never learned; the test signers' images of them are the near OOD set
            "wrong-gesture".
        far_labels: Labels of images that show no sign (Kaggle's ``nothing``), never learned; the
            test signers' images of each are a far OOD set.
        signers: ``known`` demands a signer for every image. ``none`` accepts images without: each
            label's files are then split in their order, and metrics say nothing about new people.
        test_signers: Names of the signers held out for the final evaluation.
        test_share: Share of signers (of each label's files, the last, if signers is none) held out
            when test_signers is empty. 0.25 leaves two or more training signers of three or more.
        seed: Seed for drawing the held-out signers of test_share.
        size: Side in pixels of the square network input. AlexNet was trained on 224.
        crop: What AlexNet sees: the square around the ``hand`` that MediaPipe's networks find (the
            whole picture where they find none); or, with ``none``, always the whole picture.
        handedness: ``normalise`` mirrors left hands to right ones; ``as-is`` does not.
        fit: How an image becomes a square where crop is none: ``pad`` keeps all of it and fills up
            with the border's colour; ``squash`` stretches it; ``crop`` takes the middle.
        augmentations: Augmented copies of each training image, computed once, 37 kB each on disk.
            With crop ``hand`` they are taken otherwise, see rejection.conditions.
        mirror: Whether augmentation may mirror images. Off, since handedness can carry meaning.
        max_pixels: Larger images are set aside undecoded, since they may be decompression bombs;
            common cameras have fewer than 64 million.
        min_side: Images with a shorter side, in pixels, are set aside: a hand is not
            recognisable in fewer than 16.
        weights: AlexNet's convolutions: ``shipped`` (ImageNet), ``random``, or a safetensors file
            with torchvision's keys.
        cache: Folder or URI of computed features, shared by all runs; null is the folder
            ``features`` next to the runs. From an object store each machine copies to TMPDIR.
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
    far_labels: list[Name] = field(default_factory=list)
    signers: Literal["known", "none"] = "known"
    test_signers: list[Name] = field(default_factory=list)
    test_share: ShareBetween = 0.25
    seed: int = 0
    size: Annotated[int, Range(63, 1024)] = 224
    crop: Literal["hand", "none"] = "hand"
    handedness: Literal["normalise", "as-is"] = "normalise"
    fit: Literal["pad", "squash", "crop"] = "pad"
    augmentations: CountOrZero = 4
    mirror: bool = False
    max_pixels: int = 64_000_000
    min_side: int = 16
    weights: str = "shipped"
    cache: Optional[str] = None
    engine: Literal["auto", "local", "ray"] = "auto"


@dataclass(frozen=True)
class MemberConfig:
    """Hyperparameters of one head on pixels, by default the baseline recipe; also the search's
    first trial.

    Args:
        widths: Units of the two hidden layers, (h1, h2).
        dropout: Share of hidden units dropped in training.
        learning_rate: Adam's step size.
        weight_decay: Decoupled weight decay per step, on weight matrices only; 0 is plain Adam.
        label_smoothing: Share of the target spread evenly over all labels.
        augment_prob: Probability that an epoch replaces an image by one of its augmented copies;
            0 trains on the original images alone.
        batch_size: Images per step.
        epochs: Passes over the training images, at most.
        validation_share: Share of training images held out for early stopping; 0 trains all epochs.
        patience: Epochs without a lower validation loss before training stops.
        components: Principal components of the features that the first layer learns on; 512 span
            a few hundred images nearly and train faster. 0 learns on all features.
        point_noise: Standard deviation of the noise on a landmark member's inputs in training.
        bootstrapped: Whether each network trains on a bootstrap sample of its training images
            (bagging, Breiman 1996), so that members differ.
        seed: Seed of a single training (``train``); a search derives its own from search.seed.
    """

    widths: tuple[Count, Count] = (1024, 512)
    dropout: ShareBelowOne = 0.5
    learning_rate: Positive = 1e-4
    weight_decay: NonNegative = 0.0
    label_smoothing: ShareBelowOne = 0.0
    augment_prob: Share = 0.0
    batch_size: Count = 32
    epochs: Count = 10
    validation_share: Annotated[float, Range(0, 0.5)] = 0.1
    patience: Count = 3
    components: CountOrZero = 512
    point_noise: NonNegative = 0.0
    bootstrapped: bool = False
    seed: CountOrZero = 0


@dataclass(frozen=True)
class SearchConfig:
    """The hyperparameter search: its trials, their resources and the ranges searched.

    Args:
        trials: Number of trials of each kind of members; the first one that reads pixels uses the
            settings of member.
        trial: What a trial trains on each fold: ``head``, a head on frozen features, in seconds;
            or ``end-to-end``, head and convolutions, by Ray Train, in minutes (it needs
            finetune.layers and uses the resources in scale).
        time_budget: Seconds after which no trial is started or continued; null is no limit.
        concurrent: Trials at once; null is as many as the cluster's CPUs and GPUs hold at the
            start, and for more an autoscaling cluster adds nodes. 1 is reproducible bit for bit.
        cpus_per_trial: CPU threads of one trial; 1 uses the cores best when many trials run.
        gpus_per_trial: GPUs of one trial, for example 0.25; 0 trains on the CPU.
        seed: Seed of the sampler and of every trial.
        folds: Most folds per trial. With more training signers than this, signers share folds.
        reduction: Successive halving: after fold 1, 2, 4, ... a trial continues only if it is
            among the best 1/reduction at that fold; 2 prunes the least.
        max_failures: How often a trial that lost its node is restarted.
        dropout: Range searched, uniform.
        learning_rate: Range searched, log-uniform.
        weight_decay: Range searched, log-uniform.
        label_smoothing: Range searched, uniform; above 0.1 it flattens the members' confidence.
        augment_prob: Range searched, uniform; augmented copies imitate new poses and light.
        backbone_rate: Range searched for the convolutions' step size, log-uniform (end-to-end).
        epochs: Values searched; with augmentation training takes longer than the default of 10.
        batch_size: Values searched.
        h1: Values searched for the width of the first hidden layer.
        h2: Values searched for the width of the second hidden layer.
        landmark_rate: Range searched for the learning rate of landmark members, log-uniform.
        landmark_epochs: Values searched for their epochs.
        landmark_widths: Values searched for the widths of their hidden layers.
        point_noise: Range searched for the noise on their inputs, uniform, in sizes of the hand.
    """

    trials: Count = 16
    trial: Literal["head", "end-to-end"] = "head"
    time_budget: Optional[Positive] = None
    concurrent: Optional[Count] = None
    cpus_per_trial: Count = 1
    gpus_per_trial: NonNegative = 0.0
    seed: CountOrZero = 0
    folds: TwoOrMore = 6
    reduction: TwoOrMore = 2
    max_failures: CountOrZero = 2
    dropout: tuple[ShareBelowOne, ShareBelowOne] = (0.2, 0.8)
    learning_rate: tuple[Positive, Positive] = (3e-5, 1e-3)
    weight_decay: tuple[NonNegative, NonNegative] = (1e-6, 1e-1)
    label_smoothing: tuple[ShareBelowOne, ShareBelowOne] = (0.0, 0.1)
    augment_prob: tuple[Share, Share] = (0.3, 1.0)
    backbone_rate: tuple[Positive, Positive] = (5e-5, 5e-4)
    epochs: tuple[Count, ...] = (15, 25)
    batch_size: tuple[Count, ...] = (32, 64)
    h1: tuple[Count, ...] = (256, 512, 1024)
    h2: tuple[Count, ...] = (128, 256, 512)
    landmark_rate: tuple[Positive, Positive] = (3e-4, 3e-3)
    landmark_epochs: tuple[Count, ...] = (30, 60)
    landmark_widths: tuple[Count, ...] = (64, 128, 256)
    point_noise: tuple[NonNegative, NonNegative] = (0.02, 0.2)


@dataclass(frozen=True)
class EnsembleConfig:
    """Which trials become members, and how these are trained.

    Args:
        size: Most members of each kind.
        kinds: What members read. Two kinds err on different images: more wrong gestures are found.
        method: ``top_k`` takes the trials with the lowest loss; ``greedy`` adds, with replacement,
            the trial that lowers the ensemble's out-of-fold loss most (Caruana et al. 2004).
        members: ``refit`` trains each member on all training signers, for the number of epochs
            that was best in its folds; ``folds`` uses the trial's fold models.
        gda: Gaussian discriminant analysis, which costs seconds and helps most with few signers:
            ``auto`` averages its predictions with the members', by the weight that minimises the
            out-of-fold loss; ``none`` uses the members alone.
    """

    size: Count = 3
    kinds: tuple[Literal["pixels", "landmarks"], ...] = ("pixels", "landmarks")
    method: Literal["top_k", "greedy"] = "top_k"
    members: Literal["refit", "folds"] = "refit"
    gda: Literal["auto", "none"] = "auto"


@dataclass(frozen=True)
class FinetuneConfig:
    """Fine-tuning: the convolutions of each pixel member learn too, starting from its trained head.

    Args:
        layers: Which convolutions learn: ``none`` (members are heads on frozen features), ``last``
            (the fifth), ``conv3+`` or ``all``. none: others cost minutes a member.
        epochs: Passes over the training images; few, since all weights are pretrained.
        learning_rate: AdamW's peak step size for the head.
        backbone_rate: AdamW's peak step size for the convolutions.
        weight_decay: Decoupled weight decay per step, on weight matrices only.
        warmup: Share of all steps in which the step size rises to its peak; it then falls to 0
            along a cosine.
        clip: Largest norm of the gradient; longer gradients are scaled down to it.
        batch_size: Images per step, over all workers together.
        augment_prob: Probability that an image is augmented anew in an epoch.
    """

    layers: Literal["none", "last", "conv3+", "all"] = "none"
    epochs: Count = 12
    learning_rate: Positive = 4e-4
    backbone_rate: Positive = 1e-4
    weight_decay: NonNegative = 1e-2
    warmup: Share = 0.1
    clip: Positive = 5.0
    batch_size: Count = 64
    augment_prob: Share = 1.0


@dataclass(frozen=True)
class ScaleConfig:
    """How fine-tuning is spread over a cluster. The results do not depend on it.

    Args:
        workers: Processes that share each step of one training: a number, or ``1:4`` for as many
            as the cluster has room for, from 1 to 4.
        cpus_per_worker: CPU threads of a worker; null divides the cluster's CPUs evenly.
        gpus_per_worker: GPUs of a worker, for example 1 or 0.5; 0 trains on the CPU. null is one
            each, or an even share if the cluster has too few.
        concurrent: Members trained at once; null is one per available GPU, or one on CPUs.
        micro_batch: Images that a worker processes at a time; fewer need less memory.
        checkpoint_minutes: Age of the last checkpoint at which another is written in mid-epoch.
        max_failures: How often a training that lost a worker continues from its last checkpoint.
    """

    workers: str = "1"
    cpus_per_worker: Optional[Count] = None
    gpus_per_worker: Optional[NonNegative] = None
    concurrent: Optional[Count] = None
    micro_batch: Count = 64
    checkpoint_minutes: Positive = 5.0
    max_failures: CountOrZero = 3

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
    """When an image is rejected instead of answered.

    Args:
        target_coverage: Share of a new signer's real signs that should be answered.
        max_error: Largest share of errors among the answered images. Images are then also
            rejected for high total uncertainty, below target_coverage if need be. null: no limit,
            since its cost in coverage depends on how accurate the ensemble is on new signers.
        uncertainty_share: Share of the rejections at target_coverage that go to signs with high
            total uncertainty; the rest, most, go to images that look out-of-distribution.
        conditions: What the threshold must hold under: the rule is calibrated on augmented copies
            taken so as well. Fewer reject more of what is taken otherwise, and more wrong gestures.
        neighbours: The k of the distance to the k-th nearest reference image.
        reference_images: Most training images kept as the reference set; of more, a stratified
            sample is drawn.
        hand_count_images: Images with no hand, with one and with two, each, that are made of every
            training signer's to train the hand-count detector, which only pixels need; 0: none.
        held_out_groups: Groups of a fifth of the labels, each held out of training once, so that
            its images stand for wrong gestures when confidence is fitted; 0 to 5. No network is
            trained for it. 0 leaves confidence without P(in-distribution).
        ood_prior: Assumed share of out-of-distribution images among those shown, which confidence
            depends on and nobody knows beforehand; 0 assumes that every image is a sign.
    """

    target_coverage: ShareBetween = 0.95
    max_error: Optional[ShareBetween] = None
    uncertainty_share: ShareBelowOne = 0.1
    conditions: tuple[Condition, ...] = get_args(Condition)
    neighbours: Count = 5
    reference_images: Annotated[int, Range(100)] = 4000
    hand_count_images: CountOrZero = 100
    held_out_groups: Annotated[int, Range(0, 5)] = 3
    ood_prior: ShareBelowOne = 0.5


@dataclass(frozen=True)
class EvaluateConfig:
    """The evaluation of the finished ensemble.

    Args:
        near: Further near OOD sets (wrong gestures), name: folder or glob pattern.
        far: Further far OOD sets (no sign), name: folder or glob pattern.
        images: Images of each built-in far OOD set.
        condition_images: Test signs, and wrong gestures, shown once more under each condition.
        bootstrap: Bootstrap samples per confidence interval; 500 settle two digits of a 95 %
            interval.
        seed: Seed of the built-in sets and of the bootstrap.
        again: Evaluate once more although metrics.json exists; the number of evaluations is
            kept in it.
    """

    near: dict[str, str] = field(default_factory=dict)
    far: dict[str, str] = field(default_factory=dict)
    images: TenOrMore = 300
    condition_images: CountOrZero = 100
    bootstrap: TenOrMore = 500
    seed: CountOrZero = 0
    again: bool = False


@dataclass(frozen=True)
class RunConfig:
    """Where results are written.

    Args:
        root: Folder of all runs.
        name: Name of this run's folder; null derives it from the data and the settings, so that
            the same command finds its own run again.
        storage: Where all runs are kept instead of root: ``s3://bucket/folder``,
            ``gs://bucket/folder`` or a path. Credentials come from the environment.
    """

    root: str = "runs"
    name: Optional[str] = None
    storage: Optional[str] = None


@dataclass(frozen=True)
class WandbConfig:
    """Logging to Weights & Biases.

    Args:
        mode: ``online``, ``offline`` (files to sync later) or ``disabled``. Without a key or a
            network, online becomes offline, with a message.
        project: Project name.
        entity: User or team; null is your default.
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
