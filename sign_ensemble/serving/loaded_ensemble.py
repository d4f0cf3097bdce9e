"""The Python API: a loaded ensemble, and what it answers.

Letters: N images, H and W rows and columns.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from sign_ensemble.data.images import SetAside
from sign_ensemble.data.square_pictures import PictureSettings
from sign_ensemble.serving.answered_images import AnsweredImages, predictions_of
from sign_ensemble.serving.given_images import (
    GivenImage,
    GivenImages,
    SquarePicture,
    several,
    square_picture,
)
from sign_ensemble.serving.predictions import Prediction, RuleSummary, unreadable

AT_ONCE = 256  # images in memory: 154 MB


class Backend(Protocol):
    """What reads square pictures: a run's own code, or an exported ensemble."""

    @property
    def labels(self) -> tuple[str, ...]:
        """Label names, in the order of the probabilities."""
        ...

    @property
    def settings(self) -> PictureSettings:
        """How pictures are read."""
        ...

    @property
    def rule(self) -> RuleSummary:
        """The rejection rule in a few numbers."""
        ...

    @property
    def reasons(self) -> Mapping[str, str]:
        """Why an image is rejected, in words, by score."""
        ...

    def answer(self, pictures_NHW3: NDArray[np.uint8]) -> AnsweredImages:
        """What the ensemble says of N square pictures, at least one."""
        ...


@dataclass(frozen=True, repr=False)
class LoadedEnsemble:
    """A finished ensemble, ready to answer. It may be used from several threads."""

    backend: Backend
    read_card: Callable[[], str] = field(compare=False)
    _turn: threading.Lock = field(default_factory=threading.Lock, compare=False)

    def __repr__(self) -> str:
        return f"<LoadedEnsemble of {len(self.labels)} labels>"

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels that it can answer."""
        return self.backend.labels

    @property
    def rule(self) -> RuleSummary:
        """The rejection rule in a few numbers."""
        return self.backend.rule

    @cached_property
    def card(self) -> str:
        """The model card, Markdown with a YAML head.

        Raises:
            UserError: a file that it is made of was damaged or is of another version.
        """
        return self.read_card()

    def predict(self, images: GivenImages) -> list[Prediction]:
        """A label, or why it is rejected, for each image, in order.

        An image is a path, the bytes of an image file, a PIL image, or an array (H, W, 3) of uint8
        (red, green, blue); ``images`` is one of them or a sequence. One that cannot be read is
        rejected, and its ``error`` says why.

        Raises:
            UserError: something given is no image of these kinds.
        """
        given, found = several(images), list[Prediction]()
        for start in range(0, len(given), AT_ONCE):
            found += self._predict_some(given[start : start + AT_ONCE])
        return found

    def _predict_some(self, given: Sequence[GivenImage]) -> list[Prediction]:
        settings = self.backend.settings

        def read(image: GivenImage) -> SquarePicture | str:
            try:
                return square_picture(image, settings)
            except SetAside as reason:
                return str(reason)

        with ThreadPoolExecutor() as pool:
            pictures_or_reasons = list(pool.map(read, given))
        pictures = [each for each in pictures_or_reasons if isinstance(each, SquarePicture)]
        answered = iter(self._answer(pictures))
        return [
            unreadable(each) if isinstance(each, str) else next(answered)
            for each in pictures_or_reasons
        ]

    def _answer(self, pictures: Sequence[SquarePicture]) -> list[Prediction]:
        if not pictures:
            return []
        with self._turn:  # each call uses all cores
            found = self.backend.answer(np.stack([each.square_HW3 for each in pictures]))
        places = [each.at for each in pictures]
        return predictions_of(found, self.labels, self.backend.reasons, places)
