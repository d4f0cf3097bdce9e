"""What is seen of pictures → features: of the convolutions, at the fingertips, of the landmarks.

Letters: N images, H and W rows and columns, D features.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from sign_ensemble.core.config import DataConfig
from sign_ensemble.data import backbone
from sign_ensemble.data.hand_views import HandViews, Pictures, look


def features_of_views(
    views: HandViews, weights: str, progress: Callable[[int, int], None] | None = None
) -> backbone.Features:
    """All features of what is seen."""
    net = backbone.load(weights)
    found = net.of_images(views.crops_NHW3, progress, views.places_N52)
    return with_hands(found, views)


def with_hands(of_pixels: backbone.Features, views: HandViews) -> backbone.Features:
    """The features of crops, with those of the hands; at the fingertips zeros without a hand."""
    of_pixels.all_ND[~views.hands.found_N, backbone.OF_IMAGE :] = 0
    return backbone.Features(np.concatenate([of_pixels.all_ND, views.hand_ND], 1))


def features_of_pictures(pictures_NHW3: Pictures, data: DataConfig) -> backbone.Features:
    """Features of pictures in memory, as ``read_image`` gives them."""
    if data.crop == "none":
        return backbone.load(data.weights).of_images(np.asarray(pictures_NHW3))
    return features_of_views(look(pictures_NHW3, data), data.weights)
