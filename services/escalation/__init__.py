"""Escalation: what customers are promised, the clocks that run on it, and the unit that takes over."""

PATHS = ("calendars", "promises", "ladders", "rotas", "notices", "clocks", "escalations", "issues")
"""First path segments after /v1 that are this service's."""
