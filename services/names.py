"""The one list of services that everything is wired from, and which paths are whose. It is read without importing them.

To add a service: a package with the same rooms as the others and its `PATHS`, and its name below.
"""

from __future__ import annotations

from importlib import import_module

NAMES = ("intake", "router", "escalation", "vendor", "metrics")

SERVICE_OF: dict[str, str] = {path: name for name in NAMES for path in import_module(f"services.{name}").PATHS}
"""First segment of a path after /v1 → service name."""
