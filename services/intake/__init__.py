"""Takes in what customers bring, keeps each case's life cycle, and holds what is personal about them."""

PATHS = ("cases", "imports", "customers", "keys", "events")
"""First path segments after /v1 that are this service's."""
