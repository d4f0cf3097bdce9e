"""Many trials to the best k."""
