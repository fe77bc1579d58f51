"""Secrets, and the first of them: the admin key that a first start makes."""

from __future__ import annotations

import hashlib
import os
import secrets
import sys
import tempfile
from contextlib import suppress
from functools import partial
from pathlib import Path

from events.operations import KeyIssued, Role
from services.intake.decide import keys as decide
from services.intake.decide.keys import KEY
from services.runtime import Host

FIRST = KEY + "admin"
"""The first key's subject: one per installation, whoever starts first."""

FILE = "admin.key"
"""Where a generated first key is kept for the local command line, in the data directory."""


def new_secret() -> str:
    """256 random bits that say what they are for."""
    return "cw_" + secrets.token_urlsafe(32)


async def first_start(host: Host) -> None:
    """Make the first admin key, once under any number of processes; where there is one, nothing happens.

    Its secret is the setting's, else a generated one: written 0600 to the data directory before the key exists, so
    that no crash leaves a key without its secret, and printed by the process that made it.
    """
    _, version = await host.store.state(decide.FOLD(FIRST))
    if version > 0:
        return
    secret = host.settings.admin_key or _kept(host.settings.data_dir / FILE)
    issued = KeyIssued(role=Role.ADMIN, sha256=hashlib.sha256(secret.encode()).hexdigest(), label="the first admin key")
    changed = await host.store.change(
        decide.FOLD(FIRST), decision=partial(decide.issue, issued), actor="service:intake"
    )
    if host.settings.admin_key is not None:
        return
    if changed.events:
        sys.stdout.write(f"The first admin key, also in {host.settings.data_dir / FILE}: {secret}\n")
        sys.stdout.flush()
    elif changed.states[0].sha256 != issued.sha256:
        (host.settings.data_dir / FILE).unlink(missing_ok=True)  # another process was first, with another secret


def _kept(path: Path) -> str:
    """The secret in the file: an earlier start's that did not come to its end, else a new one, there as a whole."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor, draft = tempfile.mkstemp(dir=path.parent)  # readable by its owner only
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(new_secret() + "\n")
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileExistsError):
            os.link(draft, path)
    finally:
        Path(draft).unlink()
    return path.read_text().strip()
