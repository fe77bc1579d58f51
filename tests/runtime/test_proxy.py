"""The proxy's configuration in a real nginx: what is slow is cut there, and no service learns of it."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from tests.doors.fuzz import served
from tests.runtime.test_tls import free_port
from tests.until import until

CONF = Path(__file__).resolve().parents[2] / "deploy" / "nginx.conf"


@dataclass
class Upstream:
    """Stands for every service and keeps what it was asked."""

    asked: list[str] = field(default_factory=list)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        self.asked.append(f"{request.method} {request.url.path}")
        await PlainTextResponse(str(len(await request.body())))(scope, receive, send)


@dataclass(frozen=True)
class Proxy:
    port: int
    upstream: Upstream

    async def closed_after(self, said: bytes) -> bytes:
        """What is answered until the proxy ends a connection on which only this was said."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(said)
        try:
            async with asyncio.timeout(10):
                return await reader.read()
        finally:
            writer.close()


@pytest.fixture
async def proxy() -> AsyncIterator[Proxy]:
    """As deployed, but for addresses, folders, and one second instead of ten."""
    nginx = shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/usr/bin:/opt/homebrew/bin")
    assert nginx, "this test needs nginx: deploy/setup.sh nginx"
    upstream, port = Upstream(), free_port()
    async with served(upstream) as url:
        with tempfile.TemporaryDirectory(prefix="casewalk-") as directory:
            Path(directory).chmod(0o755)
            conf = Path(directory) / "nginx.conf"
            conf.write_text(_moved(CONF.read_text(), port, httpx.URL(url).port, directory))
            with (Path(directory) / "said").open("wb") as said:
                process = subprocess.Popen(
                    [nginx, "-e", "stderr", "-c", conf, "-g", "daemon off;"], stdout=said, stderr=said
                )
            try:
                await until(lambda: _listens(port, process))
                yield Proxy(port, upstream)
            finally:
                process.terminate()
                process.wait(10)


def _moved(text: str, port: int, upstream: int | None, directory: str) -> str:
    changes = {
        " resolve;": ";",
        ":8080;": f":{upstream};",
        "listen 8080;": f"listen 127.0.0.1:{port};",
        "/tmp/": f"{directory}/",  # noqa: S108 — it stands in the configuration
        "timeout 10s;": "timeout 1s;",
    }
    for was, now in changes.items():
        assert was in text, was
        text = text.replace(was, now)
    for service in ("intake", "router", "escalation", "vendor", "metrics"):
        text = text.replace(f"server {service}:", "server 127.0.0.1:")
    return text


async def _listens(port: int, process: subprocess.Popen[bytes]) -> bool:
    assert process.poll() is None, "nginx does not take its configuration"
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True


async def test_the_proxy_hands_requests_on_and_cuts_slow_ones_off(proxy: Proxy) -> None:
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{proxy.port}") as client:
        assert (await client.post("/v1/cases", content=b"x" * 100_000)).text == "100000"
        assert (await client.post("/v1/imports", content=b"x" * 6_000_000)).status_code == 413
        assert (await client.get("/metrics")).status_code == 404
    assert proxy.upstream.asked == ["POST /v1/cases"]

    slow_headers = proxy.closed_after(b"POST /v1/cases HTTP/1.1\r\nHost: casewalk\r\nX-Slow: ")
    slow_body = proxy.closed_after(b"POST /v1/cases HTTP/1.1\r\nHost: casewalk\r\nContent-Length: 9\r\n\r\n{")
    said = await asyncio.gather(slow_headers, slow_body)

    assert all(answer == b"" or answer.startswith(b"HTTP/1.1 408 ") for answer in said), said
    assert proxy.upstream.asked == ["POST /v1/cases"], "a service was troubled with a slow request"
