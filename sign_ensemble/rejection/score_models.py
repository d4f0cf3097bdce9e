"""What the scores are computed from, besides the members: the reference set and what is fitted
to it.

Letters: N images, B reference images, D features of the fifth layer, M members, K labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from sign_ensemble.data.backbone import Features
from sign_ensemble.rejection.gda_predictions import GdaPredictions
from sign_ensemble.rejection.joint_distance import JointScales
from sign_ensemble.rejection.member_gda import MemberGda
from sign_ensemble.rejection.nearest_neighbours import NearestNeighbours
from sign_ensemble.rejection.reference_set import (
    DistanceModels,
    Distances,
    mahalanobis_distances,
)


@dataclass(frozen=True)
class ScoreModels:
    """What is needed to score images."""

    distance_models: DistanceModels  # class Gaussians and hand-count detector
    # fifth-layer features of the reference images, for the kNN distance
    reference_BD: NDArray[np.float16]
    neighbours: int  # k of the kNN distance
    # how GDA predictions join the ensemble; None where they do not
    gda: GdaPredictions | None = None
    # where members are fine-tuned, the GDA of each one's own features
    member_gdas: tuple[MemberGda, ...] = ()
    # scales of the joint distance; None where hands are not used
    scales: JointScales | None = None

    @cached_property
    def nearest(self) -> NearestNeighbours:
        """The reference images ready for products."""
        return NearestNeighbours.of(self.reference_BD)

    def distances(
        self, features: Features, of_members: Sequence[NDArray[np.float64]], labels: int
    ) -> Distances:
        """Distances of images, by frozen features; ``of_members`` are squared distances (N, K) by
        each member's own GDA, where there are any.
        """
        models, fifth_ND = self.distance_models, features.fifth_ND
        regional_N, to_labels_MNK, kinds = mahalanobis_distances(features, models, labels)
        return Distances(
            knn_N=self.nearest.distances(fifth_ND, self.neighbours),
            regional_N=regional_N,
            to_labels_MNK=np.stack(of_members) if len(of_members) else to_labels_MNK,
            hand_count_N2=models.hand_count.scores(fifth_ND) if models.hand_count else None,
            kinds=kinds,
        )
