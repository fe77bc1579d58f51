"""What is deployed is what the services say of themselves: paths, containers, and no secret in a file."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from services.every import SERVICES

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    return loaded


def test_the_proxy_knows_every_path_of_every_service_and_no_other() -> None:
    text = (DEPLOY / "nginx.conf").read_text()
    rules = re.findall(r"~\^/v1/\(([a-z|-]+)\)\(\[/:\]\|\$\)\s+(\w+);", text)
    routed = {segment: service for segments, service in rules for segment in segments.split("|")}
    assert routed == {path: service.name for service in SERVICES for path in service.paths}


def test_the_proxy_knows_every_service_and_no_other() -> None:
    text = (DEPLOY / "nginx.conf").read_text()
    names = {service.name for service in SERVICES}
    (ops,) = re.findall(r"~\^/v1/ops/\(\?<named>([a-z|]+)\)/", text)
    assert set(ops.split("|")) == names
    assert dict(re.findall(r"upstream (\w+) .* server (\w+):8080 resolve;", text)) == {name: name for name in names}


def test_every_service_is_a_container_with_a_health_check(compose: dict[str, Any]) -> None:
    for service in SERVICES:
        container = compose["services"][service.name]
        assert container["command"][:2] == ["serve", service.name]
        assert container["environment"]["CASEWALK_DATABASE_URL"].endswith(f"@postgres/{service.name}")
    assert all("healthcheck" in container for container in compose["services"].values())


def test_every_service_has_a_database_of_its_own(compose: dict[str, Any]) -> None:
    created = re.findall(r"create database (\w+);", compose["configs"]["databases"]["content"])
    first = compose["services"]["postgres"]["environment"]["POSTGRES_DB"]
    assert sorted([first, *created]) == sorted(service.name for service in SERVICES)


def test_one_image_that_is_not_root_runs_every_service(compose: dict[str, Any]) -> None:
    assert {compose["services"][service.name]["image"] for service in SERVICES} == {"casewalk"}
    build, final = (DEPLOY / "Dockerfile").read_text().split("\nFROM ")[1:]
    assert "--require-hashes" in build
    (user,) = re.findall(r"^USER (\w+)$", final, re.MULTILINE)
    assert user != "root"


def test_no_file_holds_a_secret(compose: dict[str, Any]) -> None:
    secret = re.compile("PASSWORD|KEY")
    for name, container in compose["services"].items():
        for variable, value in container.get("environment", {}).items():
            if secret.search(variable) and not variable.startswith("KAFKA_"):
                assert re.fullmatch(r"\$\{\w+:\?.+\}", value), f"{name} {variable} must come from outside, or not start"


def test_the_container_runs_the_kafka_that_is_tested(compose: dict[str, Any]) -> None:
    tested = re.search(r"<kafka.version>(.+)</kafka.version>", (DEPLOY / "kafka" / "pom.xml").read_text())
    assert tested is not None
    assert compose["services"]["kafka"]["image"] == f"apache/kafka:{tested[1]}"


def test_images_of_others_are_named_with_a_version(compose: dict[str, Any]) -> None:
    for container in compose["services"].values():
        image, _, version = container["image"].partition(":")
        assert image == "casewalk" or re.fullmatch(r"[0-9][0-9a-z.-]*", version)


# -------------------------------------------------------------------------------------------------------- dependencies


def pinned(name: str) -> dict[str, str]:
    """What a lock file pins, by name; every entry has a version and hashes, and no address."""
    text = (DEPLOY.parent / name).read_text()
    assert "://" not in text
    found = {}
    for entry in re.split(r"\n(?=[a-z0-9])", text):
        pin = re.match(r"([a-z0-9.-]+)==(\S+)[^\n]*\\\n    --hash=sha256:[0-9a-f]{64}", entry)
        assert pin is not None, entry[:100]
        found[pin[1]] = pin[2]
    return found


def test_every_dependency_is_pinned_with_its_hashes_and_installed_by_them() -> None:
    project = tomllib.loads((DEPLOY.parent / "pyproject.toml").read_text())
    runs, tries = pinned("requirements.txt"), pinned("requirements-dev.txt")
    wanted = [re.split(r"[\[>=<]", line)[0] for line in project["project"]["dependencies"]]
    tools = [re.split(r"[\[>=<]", line)[0] for line in project["dependency-groups"]["dev"]]

    assert {name.lower() for name in wanted} <= set(runs)
    assert {name.lower() for name in tools} <= set(tries)
    assert runs.items() <= tries.items(), "what is tested is not what runs"
    assert "--require-hashes --requirement requirements-dev.txt" in (DEPLOY.parent / "Makefile").read_text()
