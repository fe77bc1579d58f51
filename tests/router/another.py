"""Another router process on the same database and log:
`python -m tests.router.another <database url> <brokers> <namespace> <directory>`."""

import asyncio
import sys
from pathlib import Path

from services.router.service import SERVICE
from services.runtime import Settings, running
from tests.router.world import MASTER_KEY


async def main(dsn: str, kafka: str, namespace: str, directory: str) -> None:
    settings = Settings(
        database_url=dsn,
        kafka=kafka or None,
        data_dir=Path(directory),
        master_key=MASTER_KEY,
        namespace=namespace,
    )
    async with running((SERVICE,), settings):
        sys.stdout.write("running\n")
        sys.stdout.flush()
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
