"""The vocabulary of customer cases and the machinery that records, carries, folds and replays it."""
