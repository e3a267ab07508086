"""Compares `adaptive` with other loaders, side by side in one run: `make bench`."""
