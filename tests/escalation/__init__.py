"""Escalation: its clocks, its decisions, its views and its doors."""
