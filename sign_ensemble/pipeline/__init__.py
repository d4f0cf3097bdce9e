"""The stages of a run, each from the files of the one before to its own; commands call these."""
