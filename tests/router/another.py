"""Another router process on the same database: `python -m tests.router.another <database url> <directory>`."""

import asyncio
import sys
from pathlib import Path

from services.router.service import SERVICE
from services.runtime import Settings, running
from tests.router.world import MASTER_KEY


async def main(dsn: str, directory: str) -> None:
    settings = Settings(database_url=dsn, data_dir=Path(directory), master_key=MASTER_KEY)
    async with running((SERVICE,), settings):
        sys.stdout.write("running\n")
        sys.stdout.flush()
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
