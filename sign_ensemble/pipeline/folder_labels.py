"""Predictions against the names of the folders that the images lie in.

Letters: N images.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import PurePath

import numpy as np
import pyarrow as pa

from sign_ensemble.core.names import listed
from sign_ensemble.metrics.figures import coverage, selective_risk


@dataclass
class FolderTally:
    """What was answered of images whose folder is a label, and of the others, counted table by
    table.
    """

    labels: frozenset[str]
    right: list[bool] = field(default_factory=list)  # of images whose folder is a label
    accepted: list[bool] = field(default_factory=list)
    others: dict[str, list[int]] = field(default_factory=dict)  # folder: rejected, answered
    unreadable: int = 0

    def add(self, table: pa.Table) -> None:
        """Count the rows of a table of predictions."""
        columns = ("path", "likeliest", "accepted", "error")
        for path, likeliest, accepted, error in zip(
            *(table.column(name).to_pylist() for name in columns), strict=True
        ):
            folder = PurePath(path).parent.name
            if error is not None:
                self.unreadable += 1
            elif folder in self.labels:
                self.right.append(likeliest == folder)
                self.accepted.append(accepted)
            else:
                self.others.setdefault(folder, [0, 0])[accepted] += 1

    def words(self) -> list[str]:
        """A line for each kind of images."""
        lines = []
        if self.right:
            right_N, accepted_N = np.array(self.right), np.array(self.accepted)
            risk, answered = selective_risk(accepted_N, ~right_N), int(accepted_N.sum())
            errors = "–" if risk is None else f"{100 * risk:.1f} %"
            lines.append(
                f"folders are labels: n = {len(right_N)}, accuracy {100 * right_N.mean():.1f} %, "
                f"coverage {100 * float(coverage(accepted_N)):.1f} %, errors {errors} of "
                f"{answered} answered"
            )
        if self.others:
            rejected, answered = map(sum, zip(*self.others.values(), strict=True))
            lines.append(
                f"{len(self.others)} folders are no label ({listed(self.others)}): "
                f"n = {rejected + answered}, {answered} answered, {rejected} rejected"
            )
        if self.unreadable:
            lines.append(f"{self.unreadable} could not be read and are not counted")
        return lines
