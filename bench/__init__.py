"""How fast Casewalk is, as ratios: every row stands beside its yardstick, measured in turns in the same run."""
