"""Intake: what it decides, what it reacts to, its views and its doors."""
