"""Escalation: what customers are promised, the clocks that run on it, and the unit that takes over."""
