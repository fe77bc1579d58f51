"""Doors to the routing table."""

from functools import partial

from fastapi import APIRouter, Response
from pydantic import ConfigDict, Field

from events.case import Priority
from events.errors import Unknown
from events.event import Ref
from events.operations import Role, RoutingRule, When
from services.router import organigram, views
from services.router.organigram import TABLE
from services.router.table import TABLE_ID
from services.web import Answer, Caller, Door, Order, written


class WhenOrder(Order):
    channels: tuple[Ref, ...] = Field(default=(), max_length=500)
    markets: tuple[Ref, ...] = Field(default=(), max_length=500)
    languages: tuple[Ref, ...] = Field(default=(), max_length=500)
    journeys: tuple[Ref, ...] = Field(default=(), max_length=500)
    priorities: tuple[Priority, ...] = ()


class RuleOrder(Order):
    rule: Ref = Field(description="Its name in events: unique in the table.")
    when: WhenOrder = Field(default=WhenOrder(), description="Every non-empty list must contain the case's value.")
    queue_id: Ref


class TableOrder(Order):
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "rules": [
                        {"rule": "urgent", "when": {"priorities": ["urgent"]}, "queue_id": "general"},
                        {"rule": "default", "queue_id": "general"},
                    ]
                }
            ]
        }
    )

    rules: tuple[RuleOrder, ...] = Field(
        min_length=1, max_length=2000, description="The first that holds decides; the last has no condition."
    )


class TableAnswer(Answer):
    table_id: str
    version: int
    rules: list[RoutingRule]


def add(router: APIRouter, door: Door) -> None:
    """The routing table."""
    host = door.host

    @router.put(f"/v1/routing-tables/{TABLE_ID}", summary="Publish the routing table")
    async def put_table(order: TableOrder, response: Response, caller: Caller = door.caller(Role.LEAD)) -> TableAnswer:
        """Every case routed from now on follows it, and says which version and rule did. Its queues must exist.

        The same content again makes no new version.
        """
        rules = tuple(
            RoutingRule(rule=rule.rule, when=When(**rule.when.model_dump()), queue_id=rule.queue_id)
            for rule in order.rules
        )
        changed = await host.store.change(
            TABLE(),
            decision=partial(organigram.publish_table, rules),
            actor=caller.actor,
            expected=caller.expected,
            once=caller.once(order, 200, table_id=TABLE_ID),
            look=views.queue_ids,
        )
        written(response, changed)
        table = changed.states[0]
        return TableAnswer(table_id=TABLE_ID, version=table.version, rules=list(table.rules))

    @router.get(f"/v1/routing-tables/{TABLE_ID}", summary="The routing table in force")
    async def get_table(
        response: Response, caller: Caller = door.caller(Role.LEAD, Role.AGENT, Role.READER)
    ) -> TableAnswer:
        """The `ETag` is what `If-Match` takes when you publish the next version."""
        table, version = await host.store.state(TABLE())
        if table is None:
            raise Unknown("no routing table was published yet")
        response.headers["ETag"] = f'"{version}"'
        return TableAnswer(table_id=TABLE_ID, version=table.version, rules=list(table.rules))
