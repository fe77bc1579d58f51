"""The rows of the table, one module each: `measure(ground, sizes)` yields what it found."""
