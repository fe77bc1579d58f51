"""Metrics: folds every case into facts, walks and figures."""

PATHS = ("walks", "figures", "definitions")
"""First path segments after /v1 that are this service's."""
