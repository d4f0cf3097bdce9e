"""What the rejection rule cannot do with the images that are there, said before any training."""

from __future__ import annotations

from sign_ensemble.core.config import Config
from sign_ensemble.data.manifest import Manifest
from sign_ensemble.pipeline.held_out_labels import label_groups
from sign_ensemble.rejection.calibration_support import Support
from sign_ensemble.rejection.p_in_distribution import EVERY_IMAGE_A_SIGN


def limits_of_data(config: Config, listed: Manifest) -> list[str]:
    """A sentence for each limit: too few images for the target coverage, too few labels to hold any
    out.
    """
    rule, labels = config.rejection, len(listed.labels)
    support = Support(len(listed.rows("train")), rule.target_coverage, rule.uncertainty_share)
    found = [] if support.is_enough else [support.words()]
    if rule.ood_prior and rule.held_out_groups and not label_groups(labels, 1, 0):
        found.append(f"of {labels} labels none can be held out: {EVERY_IMAGE_A_SIGN}")
    return found
