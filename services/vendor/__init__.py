"""Vendor: partners, their contracts and shares, and the cases that lie with them."""

PATHS = ("partners", "contracts", "share-plans")
"""First path segments after /v1 that are this service's."""
