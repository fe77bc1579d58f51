"""Vendor: its shares, its decisions, its views and its doors."""
