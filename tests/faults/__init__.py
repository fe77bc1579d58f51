"""What breaks, and that nothing is lost or doubled by it: `make faults`, and a sample in `make test`."""
