"""What schemathesis is told at its start: how a chunk of an import is written, and not to look for garbage often."""

from __future__ import annotations

from typing import Any

import schemathesis

from services.process import collect_seldom

collect_seldom()


@schemathesis.serializer("application/x-ndjson")
def ndjson(ctx: schemathesis.SerializationContext, value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode(errors="replace")
