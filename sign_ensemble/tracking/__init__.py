"""Weights & Biases: a run per trial, all in one group, and one for the evaluation.

The only folder that imports wandb, and only when there is something to log. Runs are written by a
thread of the driver after a trial has ended, so tracking cannot slow a trial; no fault of it ends a
command.
"""

from sign_ensemble.tracking.tracker import Tracker, open_tracker

__all__ = ["Tracker", "open_tracker"]
