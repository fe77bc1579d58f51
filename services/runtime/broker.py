"""A real Apache Kafka on loopback, started from its jars, for the demo, the distributed run and the tests."""

import base64
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from string import Template
from types import TracebackType
from typing import Final, Self

import psutil

DEPLOY: Final = Path(__file__).resolve().parents[2] / "deploy" / "kafka"
START_LIMIT_S: Final = 60.0
STOP_LIMIT_S: Final = 20.0
POLL_S: Final = 0.05
# Below the ports the system gives to outgoing connections, or a restart might find its port taken.
PORTS: Final = range(20_000, 32_000)
# Starts in half the time and memory of the server settings; a broker for load tests is not started here.
JAVA_OPTIONS: Final = ("-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Djava.awt.headless=true")
LOGGING: Final = (
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    "-Dorg.slf4j.simpleLogger.log.kafka.server.KafkaRaftServer=info",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=HH:mm:ss.SSS",
)
READY: Final = "Kafka Server started"
ARCHIVE: Final = "classes.jsa"
"""Beside the jars, what Java made of the classes that a broker loads: with it a start takes half as long."""


class BrokerUnavailable(RuntimeError):
    """Kafka cannot be started here; the message says how to get what is missing, or ends with the broker's log."""


@dataclass(frozen=True)
class _Node:
    number: int
    directory: Path
    port: int
    controller_port: int

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def properties(self) -> Path:
        return self.directory / "server.properties"

    @property
    def log(self) -> Path:
        return self.directory / "broker.log"


class Broker:
    """A Kafka cluster of one node, or of three to see one fail; nodes are numbered from 1."""

    def __init__(
        self, directory: Path, jars: Path, nodes: Sequence[_Node], properties: str, java_options: Sequence[str]
    ) -> None:
        self.directory = directory
        self._properties = properties
        archived = () if java_options else (f"-XX:SharedArchiveFile={jars / ARCHIVE}",)
        self._options = (*java_options, *archived, *JAVA_OPTIONS, *LOGGING)
        self._jars = jars
        self._java = _java()
        self._nodes = {node.number: node for node in nodes}
        self._running: dict[int, subprocess.Popen[bytes]] = {}

    @classmethod
    def start(
        cls,
        directory: Path,
        *,
        jars: Path | None = None,
        port: int | None = None,
        nodes: int = 1,
        properties: str = "",
        java_options: Sequence[str] = (),
    ) -> Self:
        """Starts Kafka on `directory`, which is made when it is new, and returns when every node takes connections.

        Blocks for two to three seconds per node. `port` is the first node's, else all ports are free ones.
        `properties` are further lines of `server.properties`; they go before its own; `java_options` go before ours. A
        broker that a killed owner left on the directory is killed first. Raises `BrokerUnavailable`.
        """
        directory = directory.expanduser().resolve()
        directory.mkdir(parents=True, exist_ok=True)
        ports = _free_ports(2 * nodes)
        if port is not None:
            ports[0] = port
        cluster = [
            _Node(number, directory / f"node-{number}", ports[2 * number - 2], ports[2 * number - 1])
            for number in range(1, nodes + 1)
        ]
        broker = cls(directory, _found(jars or DEPLOY / "lib"), cluster, properties, java_options)
        broker._kill_leftovers()
        broker._configure()
        broker._launch(cluster)
        return broker

    @property
    def bootstrap(self) -> str:
        """The addresses of all nodes, as Kafka clients read them."""
        return ",".join(node.address for node in self._nodes.values())

    @property
    def pids(self) -> dict[int, int]:
        """The process ids of the running nodes by their numbers."""
        return {number: process.pid for number, process in self._running.items()}

    def stop(self) -> None:
        """Stops all nodes in order; a node that does not end in 20 s is killed. Doing it twice is no error."""
        for process in self._running.values():
            process.terminate()
        deadline = time.monotonic() + STOP_LIMIT_S
        for number, process in list(self._running.items()):
            with suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, deadline - time.monotonic()))
            self.kill(number)

    def kill(self, node: int = 1) -> None:
        """Kills a node with SIGKILL, as a crash would."""
        process = self._running.pop(node, None)
        if process is not None:
            process.kill()
            process.wait()

    def restart(self, node: int | None = None) -> None:
        """Starts the stopped or killed nodes, or one of them, again: same data, same ports. A node whose data is gone
        starts empty."""
        self._format()
        chosen = self._nodes if node is None else [node]
        self._launch([self._nodes[number] for number in chosen if number not in self._running])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def _configure(self) -> None:
        template = Template((DEPLOY / "server.properties").read_text() + self._properties)
        voters = ",".join(f"{node.number}@127.0.0.1:{node.controller_port}" for node in self._nodes.values())
        replicas = min(3, len(self._nodes))
        for node in self._nodes.values():
            node.directory.mkdir(exist_ok=True)
            node.properties.write_text(
                template.substitute(
                    node=node.number,
                    voters=voters,
                    port=node.port,
                    controller_port=node.controller_port,
                    data=node.directory / "data",
                    replicas=replicas,
                    in_sync=max(1, replicas - 1),
                )
            )
        self._format()

    def _format(self) -> None:
        """Gives new nodes the identity of the cluster; formatted ones keep theirs."""
        identity = self.directory / "cluster.id"
        if not identity.exists():
            identity.write_text(base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("="))
        for node in self._nodes.values():
            if (node.directory / "data" / "meta.properties").exists():
                continue
            # With "=", for one identity in 64 begins with a dash.
            cluster = f"--cluster-id={identity.read_text()}"
            done = subprocess.run(
                self._command("kafka.tools.StorageTool", "format", cluster, f"--config={node.properties}"),
                capture_output=True,
                text=True,
            )
            if done.returncode != 0:
                raise BrokerUnavailable(f"Kafka could not format {node.directory}:\n{done.stdout}{done.stderr}")

    def _launch(self, nodes: Sequence[_Node]) -> None:
        try:
            for node in nodes:
                self._running[node.number] = self._spawn(node)
            for node in nodes:
                _await_ready(node, self._running[node.number])
        except BaseException:
            for node in nodes:
                self.kill(node.number)
            raise

    def _spawn(self, node: _Node) -> subprocess.Popen[bytes]:
        """Starts the process in a session of its own: Ctrl-C reaches us, and we stop it in order."""
        with node.log.open("wb") as log:
            return subprocess.Popen(
                self._command("kafka.Kafka", str(node.properties)),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _command(self, main: str, *arguments: str) -> list[str]:
        return [self._java, *self._options, "-cp", f"{self._jars}/*", main, *arguments]

    def _kill_leftovers(self) -> None:
        """Kills what a killed owner left; its number may be a stranger's by now, its configuration is not."""
        ours = {str(node.properties) for node in self._nodes.values()}
        left = [process for process in psutil.process_iter(["cmdline"]) if ours & set(process.info["cmdline"] or ())]
        for process in left:
            with suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGKILL)
        psutil.wait_procs(left, timeout=STOP_LIMIT_S)


def _java() -> str:
    home = os.environ.get("JAVA_HOME")
    java = shutil.which("java", path=f"{home}/bin") if home else shutil.which("java")
    if java is None:
        raise BrokerUnavailable(
            "Kafka needs a Java runtime, 17 or newer: `make test` or the package manager brings it."
        )
    return java


def _found(jars: Path) -> Path:
    if not list(jars.glob("kafka_2*.jar")):
        raise BrokerUnavailable(
            f"There are no Kafka jars in {jars}: `make kafka` gets them (with Maven:"
            " mvn --file deploy/kafka/pom.xml dependency:copy-dependencies)."
        )
    return jars


def _free_ports(count: int) -> list[int]:
    """Finds ports nobody listens on at this moment."""
    free: list[int] = []
    for port in random.sample(PORTS, len(PORTS)):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if probe.connect_ex(("127.0.0.1", port)) != 0:
                free.append(port)
        if len(free) == count:
            return free
    raise BrokerUnavailable(f"Fewer than {count} ports from {PORTS.start} to {PORTS.stop} are free.")


def _await_ready(node: _Node, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_LIMIT_S
    while READY not in node.log.read_text(errors="replace"):
        if process.poll() is not None:
            raise BrokerUnavailable(f"Kafka node {node.number} did not start:\n{_tail(node.log)}")
        if time.monotonic() > deadline:
            raise BrokerUnavailable(
                f"Kafka node {node.number} was not ready after {START_LIMIT_S:.0f} s:\n{_tail(node.log)}"
            )
        time.sleep(POLL_S)


def _tail(log: Path, lines: int = 20) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])


def archive() -> None:
    """Start a broker once and keep beside the jars what Java made of their classes (class data sharing, JEP 350). Java
    itself ignores it where the jars or the runtime are others by then."""
    kept = DEPLOY / "lib" / ARCHIVE
    kept.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory(prefix="casewalk-") as directory:
        Broker.start(Path(directory), java_options=(f"-XX:ArchiveClassesAtExit={kept}",)).stop()


if __name__ == "__main__":
    archive()
