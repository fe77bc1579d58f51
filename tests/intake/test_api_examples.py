"""What intake's OpenAPI says can be done can be done as it says."""

from __future__ import annotations

from typing import Any

import pytest

from tests.intake.conftest import Doors

OURS = ("/v1/cases", "/v1/imports", "/v1/keys", "/v1/customers", "/v1/events")


async def document(doors: Doors) -> dict[str, Any]:
    answer = await doors.client.get("/openapi.json")
    described: dict[str, Any] = answer.json()
    return described


def operations(described: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    """(method, path) → operation, of intake's own doors."""
    return {
        (method, path): operation
        for path, item in described["paths"].items()
        for method, operation in item.items()
        if path.startswith(OURS)
    }


def example(described: dict[str, Any], operation: dict[str, Any]) -> Any:
    """The first example of an operation's body; none where it has no body."""
    if "requestBody" not in operation:
        return None
    (content,) = operation["requestBody"]["content"].values()
    if "example" in content:
        return content["example"]
    schema = content["schema"]
    named = schema.get("$ref") or next(one["$ref"] for one in schema["anyOf"] if "$ref" in one)
    return described["components"]["schemas"][named.rpartition("/")[2]]["examples"][0]


async def test_every_door_is_described(doors: Doors) -> None:
    for (method, path), operation in operations(await document(doors)).items():
        assert operation["tags"] == ["intake"], (method, path)
        assert operation["summary"], (method, path)
        assert operation["description"], (method, path)
        assert {"401", "403", "422", "503"} <= set(operation["responses"]), (method, path)


@pytest.mark.parametrize(
    ("path", "before"),
    [
        ("/v1/cases", []),
        ("/v1/cases/{case_id}/messages", []),
        ("/v1/cases/{case_id}:resolve", []),
        ("/v1/cases/{case_id}:reopen", [":resolve"]),
        ("/v1/cases/{case_id}:close", [":resolve"]),
        ("/v1/cases/{case_id}:classify", []),
        ("/v1/cases/{case_id}:flag", []),
        ("/v1/cases/{case_id}/feedback", [":resolve"]),
        ("/v1/keys", []),
    ],
)
async def test_every_example_works_as_it_stands(doors: Doors, path: str, before: list[str]) -> None:
    described = await document(doors)
    body = example(described, described["paths"][path]["post"])
    case_id = await doors.open()
    for move in before:
        await doors("POST", f"/v1/cases/{case_id}{move}")

    answer = await doors("POST", path.replace("{case_id}", case_id), body)

    assert answer.status_code in (200, 201), answer.text


async def test_the_example_of_an_import_works_as_it_stands(doors: Doors) -> None:
    described = await document(doors)
    headers = await doors.headers("channel", Content_Type="application/x-ndjson")
    body = example(described, described["paths"]["/v1/imports"]["post"])

    answer = await doors.client.post("/v1/imports?profile=vinst", content=body, headers=headers)

    assert answer.status_code == 200
    assert (answer.json()["recorded"], answer.json()["refused"]) == (2, 0)
