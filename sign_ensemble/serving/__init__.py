"""A finished ensemble in use: the Python API, the exported ensemble."""
