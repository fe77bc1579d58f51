"""What our events look like to everybody else: JSON Schemas, AsyncAPI, and whether a change breaks a reader.

The generated files stand beside this one; `docs/asyncapi.json` and `docs/events.md` are the same for tools and people.
"""

from events.schemas.compatibility import incompatible
from events.schemas.document import asyncapi
from events.schemas.shapes import Schema, every_event, older, schema

__all__ = ["Schema", "asyncapi", "every_event", "incompatible", "older", "schema"]
