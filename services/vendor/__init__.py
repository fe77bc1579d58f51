"""Vendor: partners, their contracts and shares, and the cases that lie with them."""
