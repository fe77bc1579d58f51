"""Metrics: folds every case into facts, walks and figures."""
