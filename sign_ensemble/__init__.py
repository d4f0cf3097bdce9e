"""Sign reading with a deep ensemble that says "I don't know".

Search (Ray Tune, Optuna), ensemble, rejection, and evaluation on people the models never saw.
Importing this package loads neither torch nor ray.
"""

__version__ = "0.1.0"
