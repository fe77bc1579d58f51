"""Every service of the list, as data; importing them takes 2 s, which only those pay who run services."""

from __future__ import annotations

from importlib import import_module

from services.names import NAMES
from services.runtime import Service

SERVICES: tuple[Service, ...] = tuple(import_module(f"services.{name}.service").SERVICE for name in NAMES)
