"""The commands of `casewalk`, and what they are made of: `terminal`, `client`, `settings`, `profiles`, `server`."""
