"""Members side by side: images and their features in, evidence out.

Letters: M members, N images, H and W rows and columns, K labels, E features.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sign_ensemble.core.atomic_files import read_json
from sign_ensemble.core.errors import UserError
from sign_ensemble.core.storage import StoragePath
from sign_ensemble.data.backbone import Backbone, finetuned
from sign_ensemble.learning.member import Member, load
from sign_ensemble.rejection.stacked_heads import Heads, stack_heads


@dataclass(frozen=True)
class EnsembleOutput:
    """What the members and the training images say of N images; the scores read nothing else.

    Args:
        logits_MNK: Each member's scores before LogSoftmax; after the members, the readings of
            clouds where these read, see ``readings.py``.
        votes_M: Each one's votes, at least 1.
        neighbour_N: Distance to the k-th nearest training image, see ``neighbours.py``.
        cloud_N: Relative distance to the nearest label's cloud, see ``gaussians.py``.
        part_N: That of the part that fits it worst, and a quarter of cloud_N, see ``parts.py``.
        norm_N: How strongly it moves the frozen network, standardised, see ``norms.py``.
        clouds: How many of M, the last ones, are readings of clouds.
        own_N: As cloud_N, in what the members see, a mean by votes; None where members are heads.
        hands_NG: How much like no sign, and like two, see ``hands.py``; None where nobody asks.
    """

    logits_MNK: NDArray[np.float32]
    votes_M: NDArray[np.float64]
    neighbour_N: NDArray[np.float64]
    cloud_N: NDArray[np.float64]
    part_N: NDArray[np.float64]
    norm_N: NDArray[np.float64]
    clouds: int = 0
    own_N: NDArray[np.float64] | None = None
    hands_NG: NDArray[np.float64] | None = None

    @property
    def log_probs_MNK(self) -> NDArray[np.float64]:
        """Each member's log-probabilities, nats."""
        logits = self.logits_MNK.astype(np.float64)
        top = logits.max(-1, keepdims=True)
        return logits - top - np.log(np.exp(logits - top).sum(-1, keepdims=True))

    @property
    def probs_NK(self) -> NDArray[np.float64]:
        """The ensemble's probabilities: the mean of the members' by votes."""
        return self.mean(np.exp(self.log_probs_MNK))

    def mean(self, values_M: NDArray[np.float64]) -> NDArray[np.float64]:
        """Mean over members (first axis) by votes."""
        return np.tensordot(self.votes_M / self.votes_M.sum(), values_M, axes=1)

    def rows(self, chosen: NDArray[np.bool_] | NDArray[np.int64]) -> EnsembleOutput:
        """The evidence on some of the images."""
        return EnsembleOutput(
            self.logits_MNK[:, chosen],
            self.votes_M,
            self.neighbour_N[chosen],
            self.cloud_N[chosen],
            self.part_N[chosen],
            self.norm_N[chosen],
            self.clouds,
            None if self.own_N is None else self.own_N[chosen],
            None if self.hands_NG is None else self.hands_NG[chosen],
        )


def concatenate_outputs(parts: Sequence[EnsembleOutput]) -> EnsembleOutput:
    """The evidence on some images after that on others, by the same members."""
    own = [part.own_N for part in parts if part.own_N is not None]
    hands = [part.hands_NG for part in parts if part.hands_NG is not None]
    return EnsembleOutput(
        np.concatenate([part.logits_MNK for part in parts], 1),
        parts[0].votes_M,
        np.concatenate([part.neighbour_N for part in parts]),
        np.concatenate([part.cloud_N for part in parts]),
        np.concatenate([part.part_N for part in parts]),
        np.concatenate([part.norm_N for part in parts]),
        parts[0].clouds,
        np.concatenate(own) if own else None,
        np.concatenate(hands) if hands else None,
    )


@dataclass(frozen=True)
class HeadGroup:
    """Heads that read the same features: the frozen ones, or those of a member's own convolutions.

    Args:
        heads: The heads.
        backbone: The convolutions, if they are a member's own.
    """

    heads: Heads
    backbone: Backbone | None


@dataclass(frozen=True)
class Ensemble:
    """Members in parts, in the order of the members."""

    members: tuple[Member, ...]
    parts: tuple[HeadGroup, ...]

    @property
    def labels(self) -> tuple[str, ...]:
        """Label names in the order of the outputs."""
        return self.members[0].card.labels

    @property
    def votes_M(self) -> NDArray[np.float64]:
        """Each member's votes."""
        return np.array([member.card.weight for member in self.members], np.float64)

    def seen(
        self, features_ND: NDArray[np.float16], images_NHW3: NDArray[np.uint8] | None = None
    ) -> Iterator[tuple[Heads, NDArray[np.float16]]]:
        """The heads of each part and the features (N, E) that they read.

        Args:
            features_ND: Frozen features of the images.
            images_NHW3: The images; needed if a member has convolutions of its own.
        """
        for part in self.parts:
            features = features_ND
            if part.backbone is not None:
                assert images_NHW3 is not None
                features = part.backbone.of_images(images_NHW3).head_ND
            yield part.heads, features

    def logits(
        self, features_ND: NDArray[np.float16], images_NHW3: NDArray[np.uint8] | None = None
    ) -> NDArray[np.float32]:
        """Every member's logits (M, N, K); arguments as of :meth:`seen`."""
        seen = self.seen(features_ND, images_NHW3)
        return np.concatenate([heads.logits(features) for heads, features in seen])


def stack(members: Sequence[Member], weights: str = "shipped") -> Ensemble:
    """Put members side by side.

    Args:
        members: In the order wanted.
        weights: The convolutions that those of fine-tuned members began as, as in data.weights.

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
    frozen = [member for member in members if not member.card.learned]
    if len(frozen) == len(members):
        return Ensemble(tuple(members), (HeadGroup(stack_heads(members), None),))
    return Ensemble(tuple(members), tuple(head_group(member, weights) for member in members))


def head_group(member: Member, weights: str) -> HeadGroup:
    """One member with its own convolutions, or with the frozen ones."""
    learned = {name: member.tensors[name] for name in member.card.learned}
    own = finetuned(weights, learned) if learned else None
    return HeadGroup(stack_heads([member]), own)


def load_ensemble(folder: StoragePath, weights: str = "shipped") -> Ensemble:
    """Read the members that index.json lists, each checked against its sha256.

    Args:
        folder: The members' folder.
        weights: See :func:`stack`.

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
