"""The wiring: what a service is made of, and how its parts run together."""

from services.runtime.app import LEAVE_AFTER_S, application, running, serve
from services.runtime.host import BuiltIn, Host, Service, Settings

__all__ = ["LEAVE_AFTER_S", "BuiltIn", "Host", "Service", "Settings", "application", "running", "serve"]
