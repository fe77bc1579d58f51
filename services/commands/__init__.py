"""The commands of `casewalk`, one file each, and what they share: `terminal`, `client`, `settings`, `profiles`."""
