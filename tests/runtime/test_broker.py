"""What a Kafka started by the program promises to the runs that use it."""

import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import UnknownTopicOrPartitionError

from services.runtime.broker import ARCHIVE, Broker, BrokerUnavailable

pytestmark = pytest.mark.broker

OWNER = """
import sys
from pathlib import Path
from services.runtime.broker import Broker
broker = Broker.start(Path(sys.argv[1]))
print(broker.pids[1], broker.bootstrap, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="casewalk-") as name:
        yield Path(name)


@pytest.fixture(scope="module")
def broker() -> Iterator[Broker]:
    """One for the tests that only look at it, with an identity that looks like an option."""
    with tempfile.TemporaryDirectory(prefix="casewalk-") as name:
        (Path(name) / "cluster.id").write_text("-L_7Tn5pS2qAbcdefghijA")
        with Broker.start(Path(name)) as broker:
            yield broker


async def create_topic(bootstrap: str, name: str, replicas: int = 1) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(name, num_partitions=1, replication_factor=replicas)])
    finally:
        await admin.close()


async def write(bootstrap: str, topic: str, *values: bytes) -> None:
    async with AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all", enable_idempotence=True) as producer:
        for value in values:
            await producer.send_and_wait(topic, value)


async def read(bootstrap: str, topic: str, count: int) -> list[bytes]:
    async with AIOKafkaConsumer(bootstrap_servers=bootstrap, auto_offset_reset="earliest") as consumer:
        consumer.assign([TopicPartition(topic, 0)])
        return [(await consumer.getone()).value for _ in range(count)]


async def test_records_outlive_a_stop_and_a_kill_at_the_same_address(directory: Path) -> None:
    with Broker.start(directory) as broker:
        address = broker.bootstrap
        await create_topic(address, "walks")
        await write(address, "walks", b"one")

        broker.stop()
        broker.restart()
        await write(address, "walks", b"two")
        broker.kill()
        broker.restart()
        await write(address, "walks", b"three")

        assert broker.bootstrap == address
        assert await read(address, "walks", 3) == [b"one", b"two", b"three"]


async def test_a_broker_left_by_a_killed_owner_is_taken_over_with_its_records(directory: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", OWNER, str(directory)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as owner:
        assert owner.stdout is not None
        left, address = owner.stdout.readline().split()
        await create_topic(address, "walks")
        await write(address, "walks", b"one")
        owner.kill()
        owner.wait()

        with Broker.start(directory) as broker:
            assert not psutil.pid_exists(int(left))
            assert await read(broker.bootstrap, "walks", 1) == [b"one"]


async def test_of_three_nodes_one_may_die_and_come_back(directory: Path) -> None:
    with Broker.start(directory, nodes=3) as broker:
        await create_topic(broker.bootstrap, "walks", replicas=3)
        await write(broker.bootstrap, "walks", b"one")

        broker.kill(2)
        await write(broker.bootstrap, "walks", b"two")
        broker.restart(2)
        await write(broker.bootstrap, "walks", b"three")

        assert sorted(broker.pids) == [1, 2, 3]
        assert await read(broker.bootstrap, "walks", 3) == [b"one", b"two", b"three"]


async def test_a_topic_nobody_created_does_not_come_into_being(broker: Broker) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=broker.bootstrap)
    await admin.start()
    described = await admin.describe_topics(["mistyped"])
    listed = await admin.list_topics()
    await admin.close()

    assert described[0]["error_code"] == UnknownTopicOrPartitionError.errno
    assert "mistyped" not in listed


def test_a_taken_port_fails_with_what_the_broker_said(directory: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()

        with pytest.raises(BrokerUnavailable, match=r"did not start:\n(.|\n)*Address already in use"):
            Broker.start(directory, port=taken.getsockname()[1])


def test_an_identity_that_looks_like_an_option_is_taken(broker: Broker) -> None:
    assert broker.pids


def test_missing_jars_are_named_with_the_way_to_get_them(directory: Path) -> None:
    with pytest.raises(BrokerUnavailable, match="make kafka"):
        Broker.start(directory, jars=directory / "nowhere")


def test_a_missing_java_is_named(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAVA_HOME", str(directory))

    with pytest.raises(BrokerUnavailable, match="needs a Java runtime"):
        Broker.start(directory)


def test_it_starts_from_what_java_kept_of_its_classes(broker: Broker) -> None:
    assert any(Path(kept.path).name == ARCHIVE for kept in psutil.Process(broker.pids[1]).memory_maps())


def test_it_runs_apart_from_our_terminal_and_ends_when_told(directory: Path) -> None:
    broker = Broker.start(directory)
    pid = broker.pids[1]
    assert os.getsid(pid) != os.getsid(0)

    broker.stop()
    broker.stop()

    assert not psutil.pid_exists(pid)
    assert broker.pids == {}
