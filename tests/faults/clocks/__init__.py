"""Clocks in great numbers: `make clocks`, and a sample in `make test`."""
