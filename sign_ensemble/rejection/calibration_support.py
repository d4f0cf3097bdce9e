"""What target coverage so many calibration images support, known before anything is trained.

A conformal p-value of n calibration images is never below 1/(n + 1). A test that may reject a share
a of new signs therefore needs 1/(n + 1) ≤ a. Where n is smaller, the test still rejects every image
beyond all calibration images, which costs 1/(n + 1) instead of a.
"""

from __future__ import annotations

from dataclasses import dataclass

from sign_ensemble.rejection.conformal import images_needed, level


@dataclass(frozen=True)
class Support:
    """The tests' levels with so many calibration images."""

    images: int  # n, augmented copies not counted: they add no new picture
    target_coverage: float  # 1 − α
    uncertainty_share: float  # u, the uncertainty test's share of α; 0: there is no such test

    @property
    def levels(self) -> tuple[float, ...]:
        """The largest p-value that each test rejects at: OOD, then uncertainty."""
        return tuple(level(alpha, self.images) for alpha in self._alphas)

    @property
    def shares(self) -> tuple[float, ...]:
        """The levels over α: each test's share of it, or more where n is small."""
        return tuple(each / self._alpha for each in self.levels)

    @property
    def coverage(self) -> float:
        """The coverage that they support, 1 − Σ levels; the target or less."""
        return max(0.0, 1 - sum(self.levels))

    @property
    def images_needed(self) -> int:
        """The fewest calibration images that support the target."""
        return max(map(images_needed, self._alphas))

    @property
    def is_enough(self) -> bool:
        """Whether the target is supported."""
        return self.images >= self.images_needed

    @property
    def _alpha(self) -> float:
        return 1 - self.target_coverage

    @property
    def _alphas(self) -> tuple[float, ...]:
        """What each test may reject."""
        u = self.uncertainty_share
        return ((1 - u) * self._alpha, u * self._alpha) if u else (self._alpha,)

    def words(self) -> str:
        """One sentence for people where the target is not supported."""
        return (
            f"{self.images} training images calibrate the rejection rule, and a target coverage of "
            f"{self.target_coverage:g} needs {self.images_needed}: expect about "
            f"{self.coverage:.3f} or more, since whatever is more unusual than all of them is "
            "rejected"
        )
