"""The router: which unit's queue a case goes to, and which agent is asked to take it."""

PATHS = ("units", "agents", "queues", "routing-tables", "work")
"""First path segments after /v1 that are this service's."""
