"""What the fixtures of `tests/conftest.py` promise to every other test."""

import asyncpg
import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from tests.conftest import Engine, Postgres


@pytest.mark.parametrize("time", ["first", "second"])
async def test_every_test_gets_an_empty_database(database: str, time: str) -> None:
    connection = await asyncpg.connect(database)
    tables = await connection.fetchval("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'")
    await connection.execute(f"CREATE TABLE of_the_{time} ()")
    await connection.close()

    assert tables == 0


async def test_a_database_goes_even_while_somebody_is_connected(database: str, postgres: Postgres) -> None:
    connection = await asyncpg.connect(postgres.dsn("postgres"))
    names = await connection.fetch("SELECT datname FROM pg_database WHERE datname LIKE 'test%'")
    await connection.close()

    assert len(names) == 1


async def test_an_engine_is_a_database_and_for_kafka_a_broker(engine: Engine) -> None:
    connection = await asyncpg.connect(engine.dsn)
    assert await connection.fetchval("SELECT 1") == 1
    await connection.close()
    if engine.kafka is None:
        assert engine.name == "embedded"
        return

    admin = AIOKafkaAdminClient(bootstrap_servers=engine.kafka)
    await admin.start()
    await admin.create_topics([NewTopic(f"{engine.namespace}.cases", num_partitions=12, replication_factor=1)])
    topics = await admin.list_topics()
    await admin.close()

    assert [topic for topic in topics if topic.startswith(engine.namespace)] == [f"{engine.namespace}.cases"]
