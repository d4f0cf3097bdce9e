"""A finished run as one torch module, which ``onnx_file.py`` writes as ONNX.

It computes what ``rejection/predictor.py`` computes of crops and hands, in float32 where that has
float32 or bf16 products, and in float64 where numpy has float64.

Letters: N images, M members, then GDA predictions, K labels, H and W rows and columns.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from sign_ensemble.data import backbone
from sign_ensemble.data.square_pictures import picture_side
from sign_ensemble.learning.member import Member
from sign_ensemble.rejection.ensemble import Ensemble, EnsembleOutput, HeadGroup
from sign_ensemble.rejection.kind_distances import PARTS
from sign_ensemble.rejection.member_gda import MemberGda
from sign_ensemble.rejection.predictor import Predictor
from sign_ensemble.rejection.reference_set import DistanceModels
from sign_ensemble.rejection.scores import all_scores
from sign_ensemble.serving import graph_scores
from sign_ensemble.serving.graph_distances import (
    GraphGaussians,
    GraphKinds,
    HandCountScores,
    KnnDistance,
    RegionalDistance,
    ToAllLabels,
    hellinger,
    joint_distance,
)
from sign_ensemble.serving.graph_features import (
    GraphConvolutions,
    PixelFeatures,
    landmark_features,
    places,
)
from sign_ensemble.serving.graph_heads import GraphHeads
from sign_ensemble.serving.graph_rule import GraphRule
from sign_ensemble.serving.graph_scores import GraphOutput
from sign_ensemble.serving.graph_weights import exactly

DISCRIMINANTS = [PARTS.index(name) for name in ("tip_discriminants", "landmark_discriminants")]


def of_white_picture(predictor: Predictor) -> EnsembleOutput:
    """The output on one white picture: which members, votes and scores there are."""
    side = picture_side(predictor.data)
    return predictor.output(np.full((1, side, side, 3), 255, np.uint8))


class HeadsOfGroup(nn.Module):
    """Heads that read the same features, with convolutions and GDA of their own or without."""

    def __init__(
        self, group: HeadGroup, members: Sequence[Member], gda: MemberGda | None, labels: int
    ) -> None:
        super().__init__()
        self.kind, self.heads = group.kind, GraphHeads(members)
        self.own = GraphConvolutions(group.backbone.layers) if group.backbone else None
        self.gaussians = GraphGaussians([gda.gaussians]) if gda else None
        self.to_all = ToAllLabels(gda.labels_L, labels) if gda else None

    def of_pixels(
        self, crops_NHW3: torch.Tensor, features: PixelFeatures
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Logits (M, N, K); squared distances (N, K) by the GDA of its own, if there is one."""
        features = self.own(crops_NHW3) if self.own else features
        logits_MNK = self.heads(features.head_ND)
        if self.gaussians is None or self.to_all is None:
            return logits_MNK, None
        to_labels_1NL, _ = self.gaussians(hellinger(features.fifth_ND)[None])
        return logits_MNK, self.to_all(to_labels_1NL[0])


class GraphModels(nn.Module):
    """Distances that need the frozen convolutions."""

    def __init__(self, predictor: Predictor) -> None:
        super().__init__()
        models = predictor.models
        fitted: DistanceModels = models.distance_models
        labels = len(predictor.ensemble.labels)
        self.regional = RegionalDistance(fitted.third, fitted.regional)
        self.knn = KnnDistance(models.reference_BD, models.neighbours)
        self.hand_count = HandCountScores(fitted.hand_count) if fitted.hand_count else None
        self.fifth = GraphGaussians([fitted.fifth]) if fitted.fifth else None
        self.kinds = GraphKinds(fitted.kinds, labels) if fitted.kinds else None
        self.to_all = ToAllLabels(fitted.labels_L, labels)

    def by_layer(self, pixels: PixelFeatures, third_NL: torch.Tensor) -> list[torch.Tensor]:
        """Squared distances (N, K) by layer, where hands are not used."""
        layers = [third_NL]
        if self.fifth is not None:
            layers.append(self.fifth(hellinger(pixels.fifth_ND)[None])[0][0])
        return [self.to_all(each) for each in layers]


class ExportedGraph(nn.Module):
    """A finished run from crops and hands to decisions."""

    def __init__(self, predictor: Predictor) -> None:
        super().__init__()
        example, ensemble = of_white_picture(predictor), predictor.ensemble
        self.votes_M, self.kinds_M = example.votes_M, example.kinds_M
        self.gda_count = example.gda_count
        self.score_names = tuple(all_scores(example))
        self.has_hands = predictor.data.crop == "hand"
        self.convolutions = GraphConvolutions(backbone.load(predictor.data.weights).layers)
        # torch does not know the type of a list's modules
        self.groups: Sequence[HeadsOfGroup] = nn.ModuleList(  # type: ignore[assignment]
            groups_of(ensemble, predictor.models.member_gdas)
        )
        self.models = GraphModels(predictor)
        self.scales = predictor.models.scales
        gda = predictor.models.gda
        self.gda_factors = exactly(-0.5 / np.array(gda.temperatures)) if gda else None
        self.rule = GraphRule(predictor.rule, self.score_names)

    def forward(
        self,
        crops_NHW3: torch.Tensor,
        target_coverage: torch.Tensor,
        hands_N: torch.Tensor | None = None,
        points_N42: torch.Tensor | None = None,
        world_N63: torch.Tensor | None = None,
        mirrored_N: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, ...]:
        """The tensors of ``export_metadata.OUTPUTS``, in this order."""
        if hands_N is None or points_N42 is None or world_N63 is None or mirrored_N is None:
            places_N52 = landmarks_ND = None
        else:
            found_N = hands_N > 0
            places_N52 = places(points_N42, mirrored_N, found_N)
            landmarks_ND = landmark_features(points_N42, world_N63, mirrored_N, found_N)
        pixels = self.convolutions(crops_NHW3, places_N52)
        output = self._output(crops_NHW3, pixels, landmarks_ND, hands_N)
        scores, probs_NK = graph_scores.all_scores(output), output.probs_NK
        decisions = self.rule(scores, probs_NK, output.hands_N, target_coverage)
        return (
            probs_NK.float(),
            output.probs_MNK.float(),
            decisions.confidence_N.float(),
            decisions.p_values_N.float(),
            decisions.accepted_N,
            torch.stack([scores[name] for name in self.score_names], 1).float(),
            decisions.deciding_N,
        )

    def _output(
        self,
        crops_NHW3: torch.Tensor,
        pixels: PixelFeatures,
        landmarks_ND: torch.Tensor | None,
        hands_N: torch.Tensor | None,
    ) -> GraphOutput:
        logits, of_members = [], []
        for group in self.groups:
            if group.kind == "landmarks":
                assert hands_N is not None and landmarks_ND is not None
                found_1N1 = (hands_N > 0)[None, :, None]
                logits.append(torch.where(found_1N1, group.heads(landmarks_ND), 0.0))
                continue
            logits_MNK, to_labels_NK = group.of_pixels(crops_NHW3, pixels)
            logits.append(logits_MNK)
            if to_labels_NK is not None:
                of_members.append(to_labels_NK)
        regional_N, third_NL = self.models.regional(pixels.third_ND, pixels.fourth_ND)
        joint_N, to_labels = None, None
        if self.models.kinds is not None:
            assert hands_N is not None and landmarks_ND is not None
            kinds = self.models.kinds(pixels, landmarks_ND, hands_N > 0)
            to_labels = [kinds[part] for part in DISCRIMINANTS]
            if self.scales is not None:
                joint_N = joint_distance(kinds, regional_N, hands_N > 0, self.scales)
        if self.gda_factors is not None:
            to_labels = of_members or to_labels or self.models.by_layer(pixels, third_NL)
            scaled_MNK = self.gda_factors[:, None, None] * torch.stack(to_labels)
            logits.append(scaled_MNK.float())
        counts = self.models.hand_count
        return GraphOutput(
            logits_MNK=torch.cat(logits),
            votes_M=self.votes_M,
            kinds_M=self.kinds_M,
            knn_N=self.models.knn(pixels.fifth_ND),
            regional_N=regional_N,
            hand_count_N2=None if counts is None else counts(pixels.fifth_ND),
            hands_N=None if joint_N is None else hands_N,
            joint_N=joint_N,
        )


def groups_of(ensemble: Ensemble, gdas: Sequence[MemberGda]) -> list[HeadsOfGroup]:
    """The groups of heads in the order of the members."""
    members, left, found = iter(ensemble.members), iter(gdas), []
    for group in ensemble.groups:
        some = [next(members) for _ in range(len(group.heads.third_MUK))]
        gda = next(left) if gdas and group.kind == "pixels" else None
        found.append(HeadsOfGroup(group, some, gda, len(ensemble.labels)))
    return found
