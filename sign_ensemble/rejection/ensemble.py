"""The ensemble: members that run together, and what they and the reference set say of images.

Letters: N images, M members, K labels, D features, H and W rows and columns.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sign_ensemble.core.atomic_files import read_json
from sign_ensemble.core.errors import UserError
from sign_ensemble.core.storage import StoragePath
from sign_ensemble.data.backbone import Backbone, Features, finetuned
from sign_ensemble.learning.member import Member, load
from sign_ensemble.learning.task import Kind
from sign_ensemble.rejection.stacked_heads import StackedHeads, stack_heads

# first axis N
OF_IMAGES = ("knn_N", "regional_N", "hand_count_N2", "hands_N", "joint_N", "tips_N", "landmarks_N")


@dataclass(frozen=True)
class EnsembleOutput:
    """What members and the reference set say of N images; the scores read nothing else."""

    # members' logits before softmax, followed by GDA predictions where these are used
    logits_MNK: NDArray[np.float32]
    votes_M: NDArray[np.float64]  # weight of each
    knn_N: NDArray[np.float64]  # kNN distance
    regional_N: NDArray[np.float64]  # regional Mahalanobis distance
    gda_count: int = 0  # how many of M, the last ones, are GDA predictions
    # scores of the hand-count detector; None where it is not used
    hand_count_N2: NDArray[np.float64] | None = None
    kinds_M: tuple[Kind, ...] = ()  # what each of M reads; empty: all of them pixels
    # how many hands were found; the joint distance and its parts, see ``joint_distance.py``; None
    # where hands are not used
    hands_N: NDArray[np.int64] | None = None
    joint_N: NDArray[np.float64] | None = None
    tips_N: NDArray[np.float64] | None = None
    landmarks_N: NDArray[np.float64] | None = None

    @property
    def log_probs_MNK(self) -> NDArray[np.float64]:
        """Log-probabilities of each member, nats."""
        logits = self.logits_MNK.astype(np.float64)
        top = logits.max(-1, keepdims=True)
        return logits - top - np.log(np.exp(logits - top).sum(-1, keepdims=True))

    @property
    def probs_NK(self) -> NDArray[np.float64]:
        """The ensemble's probabilities: the members' mean by votes."""
        return self.mean(np.exp(self.log_probs_MNK))

    def mean(self, values_M: NDArray[np.float64]) -> NDArray[np.float64]:
        """Mean over members (first axis) by votes."""
        return np.tensordot(self.votes_M / self.votes_M.sum(), values_M, axes=1)

    def rows(self, chosen: NDArray[np.bool_] | NDArray[np.int64]) -> EnsembleOutput:
        """The output on some of the images."""
        some: dict[str, Any] = {
            name: None if (value := getattr(self, name)) is None else value[chosen]
            for name in OF_IMAGES
        }
        return replace(self, logits_MNK=self.logits_MNK[:, chosen], **some)


def concatenate_outputs(parts: Sequence[EnsembleOutput]) -> EnsembleOutput:
    """The output on several sets of images, one after the other, of the same members."""
    together: dict[str, Any] = {}
    for name in OF_IMAGES:
        each = [value for part in parts if (value := getattr(part, name)) is not None]
        together[name] = np.concatenate(each) if each else None
    logits_MNK = np.concatenate([part.logits_MNK for part in parts], 1)
    return replace(parts[0], logits_MNK=logits_MNK, **together)


@dataclass(frozen=True)
class HeadGroup:
    """Heads that read the same features."""

    heads: StackedHeads  # the heads
    backbone: Backbone | None  # A fine-tuned member's own convolutions; None: the frozen ones
    kind: Kind = "pixels"  # what they read


@dataclass(frozen=True)
class Ensemble:
    """Members, and their heads in groups in the same order."""

    members: tuple[Member, ...]
    groups: tuple[HeadGroup, ...]

    @property
    def labels(self) -> tuple[str, ...]:
        """Label names in the order of the outputs."""
        return self.members[0].card.labels

    @property
    def votes_M(self) -> NDArray[np.float64]:
        """Weight of each member."""
        return np.array([member.card.weight for member in self.members], np.float64)

    @property
    def kinds_M(self) -> tuple[Kind, ...]:
        """What each member reads."""
        return tuple(member.card.kind for member in self.members)

    def logits(
        self, features: Features, images_NHW3: NDArray[np.uint8]
    ) -> Iterator[tuple[HeadGroup, NDArray[np.float32], NDArray[np.float16]]]:
        """Each group, its heads' logits (M, N, K), and the features (N, D) that they read: the
        frozen ones, those of a member's own convolutions, or of the landmarks. Without a hand, the
        logits of landmark members are 0: they find every label as likely.
        """
        for group in self.groups:
            if group.kind == "landmarks":
                read_ND = features.of_hand.landmarks_ND
                logits_MNK = group.heads.logits(read_ND)
                logits_MNK[:, features.of_hand.hands_N == 0] = 0
            else:
                own = group.backbone
                read_ND = own.of_images(images_NHW3).head_ND if own else features.head_ND
                logits_MNK = group.heads.logits(read_ND)
            yield group, logits_MNK, read_ND


def stack(members: Sequence[Member], weights: str = "shipped") -> Ensemble:
    """Put members together; ``weights`` are what fine-tuned ones began with, see data.weights.

    Raises:
        UserError: there are none, or they disagree on labels, preprocessing or training images.
    """
    if not members:
        raise UserError("an ensemble needs at least one member")
    first = members[0].card
    for member in members[1:]:
        for name in ("labels", "preprocessing", "manifest"):
            if getattr(member.card, name) != getattr(first, name):
                raise UserError(
                    f"members of trials {first.trial} and {member.card.trial} differ "
                    f"in {name}: they are not of one ensemble"
                )
    members = sorted(members, key=lambda member: member.card.kind != "pixels")  # keeps their order
    of_pixels = [member for member in members if member.card.kind == "pixels"]
    of_landmarks = members[len(of_pixels) :]
    groups = []
    if any(member.card.learned for member in of_pixels):
        for member in of_pixels:
            learned = {name: member.tensors[name] for name in member.card.learned}
            own = finetuned(weights, learned) if learned else None
            groups.append(HeadGroup(stack_heads([member]), own))
    elif of_pixels:
        groups.append(HeadGroup(stack_heads(of_pixels), None))
    if of_landmarks:
        groups.append(HeadGroup(stack_heads(of_landmarks), None, "landmarks"))
    return Ensemble(tuple(members), tuple(groups))


def read_ensemble(folder: StoragePath, weights: str = "shipped") -> Ensemble:
    """Read the members that the folder's index.json lists, each checked against its sha256.

    Raises:
        UserError: a file is missing, changed, damaged or of another ensemble.
    """
    path = folder / "index.json"
    index = read_json(path)
    try:
        files = [(folder / entry["file"], str(entry["sha256"])) for entry in index["members"]]
    except (KeyError, TypeError) as fault:
        raise UserError(f"{path}: not an index of members ({fault})") from None
    return stack([load(file, sha256) for file, sha256 in files], weights)
