"""Weights & Biases: one run per trial, all in one group, and one for the evaluation.

The only folder that imports wandb, and only when there is something to log. A thread of the driver
writes the runs after a trial has ended, so tracking slows no trial; no fault of it ends a command.
"""

from sign_ensemble.tracking.tracker import Tracker, tracked

__all__ = ["Tracker", "tracked"]
