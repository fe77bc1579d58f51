"""The version in force of every unit's duty rota."""

from __future__ import annotations

from dataclasses import dataclass

from events.database import Connection, fetch
from events.event import Recorded
from events.operations import RotaPublished
from events.views import View


@dataclass(frozen=True, slots=True)
class RotaRow:
    subject: str
    unit_id: str
    version: int
    said: str
    """The version as it was published, as JSON."""

    @property
    def content(self) -> RotaPublished:
        """The version as it was published."""
        return RotaPublished.model_validate_json(self.said)


def fold_rota(row: RotaRow | None, event: Recorded[RotaPublished]) -> RotaRow:
    data = event.data
    return RotaRow(event.subject, data.unit_id, data.version, data.model_dump_json())


ROTAS = View("rotas", 2, RotaRow, (RotaPublished,), fold_rota, inline=True)


async def rotas_in_force(conn: Connection) -> dict[str, RotaPublished]:
    """Unit id → the latest version of its rota."""
    rows = [ROTAS.decode(row) for row in await fetch(conn, ROTAS.all_rows)]
    return {row.unit_id: row.content for row in sorted(rows, key=lambda row: row.unit_id)}
