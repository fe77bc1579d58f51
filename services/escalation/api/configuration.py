"""What the doors of configuration share."""

from typing import Annotated

from fastapi import Path

ConfigId = Annotated[
    str, Path(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$", description="Up to 100 letters, digits, `.`, `_`, `-`.")
]
