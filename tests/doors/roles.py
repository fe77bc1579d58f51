"""Which roles open which door, and what it does with what is another's; a new door needs a line in both tables."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from events.operations import Role

SERVICES: Final = ("intake", "router", "escalation", "vendor", "metrics")

OPEN: Final = frozenset(
    {
        "GET /health/live",
        "GET /health/ready",
        "GET /metrics",
        "GET /asyncapi.json",
        "GET /schemas/{type}",
    }
)
"""Doors without a key."""

_L, _A, _C, _P, _R = Role.LEAD, Role.AGENT, Role.CHANNEL, Role.PARTNER, Role.READER

ROLES: Final[dict[str, frozenset[Role]]] = {
    door: frozenset({Role.ADMIN, *roles})
    for door, roles in {
        # intake
        "POST /v1/cases": {_C, _A, _L},
        "GET /v1/cases": {_C, _A, _L, _P, _R},
        "GET /v1/cases/{case_id}": {_C, _A, _L, _P, _R},
        "POST /v1/cases/{case_id}/messages": {_C, _A, _L, _P},
        "POST /v1/cases/{case_id}:resolve": {_C, _A, _L},
        "POST /v1/cases/{case_id}:reopen": {_C, _A, _L},
        "POST /v1/cases/{case_id}:close": {_A, _L},
        "POST /v1/cases/{case_id}:classify": {_C, _A, _L},
        "POST /v1/cases/{case_id}:flag": {_C, _A, _L},
        "POST /v1/cases/{case_id}:link": {_A, _L},
        "POST /v1/cases/{case_id}/feedback": {_C},
        "POST /v1/imports": {_C, _L},
        "POST /v1/keys": set(),
        "GET /v1/keys": set(),
        "DELETE /v1/keys/{key_id}": set(),
        "DELETE /v1/customers/{customer_ref}": {_L},
        "GET /v1/events": {_R, _C, _L},
        # router
        "PUT /v1/units/{unit_id}": {_L},
        "GET /v1/units": {_L, _A, _R},
        "PUT /v1/queues/{queue_id}": {_L},
        "GET /v1/queues": {_L, _A, _R},
        "PUT /v1/agents/{agent_id}": {_L},
        "GET /v1/agents": {_L},
        "POST /v1/agents/{agent_id}:presence": {_L, _A},
        "PUT /v1/routing-tables/main": {_L},
        "GET /v1/routing-tables/main": {_L, _A, _R},
        "GET /v1/work": {_L, _A, _R},
        "GET /v1/work/{case_id}": {_L, _A, _R},
        "POST /v1/work/{case_id}:accept": {_L, _A},
        "POST /v1/work/{case_id}:decline": {_L, _A},
        "POST /v1/work/{case_id}:transfer": {_L, _A},
        "POST /v1/work/{case_id}:release": {_L, _A},
        # escalation
        "GET /v1/calendars": {_L, _A, _R},
        "GET /v1/calendars/{calendar_id}": {_L, _A, _R},
        "PUT /v1/calendars/{calendar_id}": {_L},
        "GET /v1/calendars/{calendar_id}:add": {_L, _A, _R},
        "GET /v1/calendars/{calendar_id}:between": {_L, _A, _R},
        "POST /v1/calendars:compute": {_L, _A, _R},
        "GET /v1/promises": {_L, _A, _R},
        "GET /v1/promises/{promise_id}": {_L, _A, _R},
        "PUT /v1/promises/{promise_id}": {_L},
        "POST /v1/promises/{promise_id}:preview": {_L},
        "GET /v1/ladders": {_L, _A, _R},
        "GET /v1/ladders/{ladder_id}": {_L, _A, _R},
        "PUT /v1/ladders/{ladder_id}": {_L},
        "GET /v1/ladders:coverage": {_L, _R},
        "GET /v1/rotas": {_L, _A, _R},
        "GET /v1/rotas/{unit_id}": {_L, _A, _R},
        "PUT /v1/rotas/{unit_id}": {_L},
        "GET /v1/rotas/{unit_id}:on-duty": {_L, _A, _R},
        "GET /v1/notices": {_L},
        "GET /v1/notices/{notice_id}": {_L},
        "PUT /v1/notices/{notice_id}": {_L},
        "GET /v1/clocks": {_L, _A, _R},
        "GET /v1/escalations": {_L, _A, _R},
        "POST /v1/escalations": {_L, _A, _C},
        "POST /v1/escalations/{escalation_id}:acknowledge": {_L, _A},
        "POST /v1/escalations/{escalation_id}:resolve": {_L, _A},
        "POST /v1/escalations/{escalation_id}:return": {_L, _A},
        "GET /v1/issues": {_L, _A, _R},
        "POST /v1/issues": {_L, _A},
        "GET /v1/issues/{issue_id}": {_L, _A, _R},
        "POST /v1/issues/{issue_id}:accept": {_L},
        "POST /v1/issues/{issue_id}:reject": {_L},
        "POST /v1/issues/{issue_id}:cancel": {_L},
        "POST /v1/issues/{issue_id}:link": {_L, _A},
        "POST /v1/issues/{issue_id}:message": {_L},
        "POST /v1/issues/{issue_id}:resolve": {_L},
        # vendor
        "GET /v1/partners": {_L, _R},
        "GET /v1/partners/{partner_id}": {_L, _R},
        "PUT /v1/partners/{partner_id}": {_L},
        "GET /v1/contracts": {_L, _R},
        "GET /v1/contracts/{contract_id}": {_L, _R},
        "PUT /v1/contracts/{contract_id}": {_L},
        "GET /v1/share-plans": {_L, _R},
        "GET /v1/share-plans/{queue_id}": {_L, _R},
        "PUT /v1/share-plans/{queue_id}": {_L},
        "GET /v1/partners/{partner_id}/cases": {_P, _L, _R},
        "POST /v1/partners/{partner_id}/cases/{case_id}:accept": {_P, _L},
        "POST /v1/partners/{partner_id}/cases/{case_id}:return": {_P, _L},
        "POST /v1/partners/{partner_id}/cases/{case_id}:resolve": {_P, _L},
        # metrics
        "GET /v1/walks/{case_id}": {_L, _A, _R},
        "GET /v1/definitions": {_L, _A, _R},
        "GET /v1/figures": {_L, _R},
        "GET /v1/figures/{figure}/cases": {_L, _R},
        # every service, for those who run it
        **{
            door.format(service=service, position="{position}", view="{view}", effect_id="{effect_id}"): roles
            for service in SERVICES
            for door, roles in {
                "GET /v1/ops/{service}/parked": {_L},
                "POST /v1/ops/{service}/parked/{position}:retry": {_L},
                "DELETE /v1/ops/{service}/parked/{position}": set(),
                "GET /v1/ops/{service}/effects": {_L},
                "POST /v1/ops/{service}/effects/{effect_id}:retry": {_L},
                "GET /v1/ops/{service}/views": {_L},
                "POST /v1/ops/{service}/views/{view}:rebuild": {_L},
                "GET /v1/ops/{service}/verify": {_L},
            }.items()
        },
    }.items()
}


class Others(StrEnum):
    """What a door does for an agent or partner with what is another agent's or partner's."""

    CLOSED = "closed"
    """403 or 404."""
    NOT_THEIRS = "not theirs"
    """409, and it says who does not own it or was not asked."""
    NOT_LISTED = "not listed"
    WITHOUT_TEXTS = "shown without texts"
    SHARED = "everybody's"
    """Colleagues stand in for each other, and configuration is no secret among them."""


OTHERS: Final[dict[Role, dict[str, Others]]] = {
    Role.AGENT: {
        "GET /v1/cases": Others.SHARED,
        "GET /v1/cases/{case_id}": Others.WITHOUT_TEXTS,
        "GET /v1/work": Others.NOT_LISTED,
        "GET /v1/units": Others.SHARED,
        "GET /v1/queues": Others.SHARED,
        "GET /v1/routing-tables/main": Others.SHARED,
        "GET /v1/work/{case_id}": Others.SHARED,
        "GET /v1/calendars": Others.SHARED,
        "GET /v1/calendars/{calendar_id}": Others.SHARED,
        "GET /v1/calendars/{calendar_id}:add": Others.SHARED,
        "GET /v1/calendars/{calendar_id}:between": Others.SHARED,
        "GET /v1/promises": Others.SHARED,
        "GET /v1/promises/{promise_id}": Others.SHARED,
        "GET /v1/ladders": Others.SHARED,
        "GET /v1/ladders/{ladder_id}": Others.SHARED,
        "GET /v1/rotas": Others.SHARED,
        "GET /v1/rotas/{unit_id}": Others.SHARED,
        "GET /v1/rotas/{unit_id}:on-duty": Others.SHARED,
        "GET /v1/clocks": Others.SHARED,
        "GET /v1/escalations": Others.SHARED,
        "GET /v1/issues": Others.SHARED,
        "GET /v1/issues/{issue_id}": Others.SHARED,
        "GET /v1/walks/{case_id}": Others.SHARED,
        "GET /v1/definitions": Others.SHARED,
        "POST /v1/agents/{agent_id}:presence": Others.CLOSED,
        "POST /v1/work/{case_id}:accept": Others.NOT_THEIRS,
        "POST /v1/work/{case_id}:decline": Others.NOT_THEIRS,
        "POST /v1/work/{case_id}:transfer": Others.NOT_THEIRS,
        "POST /v1/work/{case_id}:release": Others.NOT_THEIRS,
        "POST /v1/cases": Others.SHARED,
        "POST /v1/cases/{case_id}/messages": Others.SHARED,
        "POST /v1/cases/{case_id}:resolve": Others.SHARED,
        "POST /v1/cases/{case_id}:reopen": Others.SHARED,
        "POST /v1/cases/{case_id}:close": Others.SHARED,
        "POST /v1/cases/{case_id}:classify": Others.SHARED,
        "POST /v1/cases/{case_id}:flag": Others.SHARED,
        "POST /v1/cases/{case_id}:link": Others.SHARED,
        "POST /v1/calendars:compute": Others.SHARED,
        "POST /v1/escalations": Others.SHARED,
        "POST /v1/escalations/{escalation_id}:acknowledge": Others.SHARED,
        "POST /v1/escalations/{escalation_id}:resolve": Others.SHARED,
        "POST /v1/escalations/{escalation_id}:return": Others.SHARED,
        "POST /v1/issues": Others.SHARED,
        "POST /v1/issues/{issue_id}:link": Others.SHARED,
    },
    Role.PARTNER: {
        "GET /v1/cases": Others.NOT_LISTED,
        "GET /v1/cases/{case_id}": Others.CLOSED,
        "POST /v1/cases/{case_id}/messages": Others.CLOSED,
        "GET /v1/partners/{partner_id}/cases": Others.CLOSED,
        "POST /v1/partners/{partner_id}/cases/{case_id}:accept": Others.CLOSED,
        "POST /v1/partners/{partner_id}/cases/{case_id}:return": Others.CLOSED,
        "POST /v1/partners/{partner_id}/cases/{case_id}:resolve": Others.CLOSED,
    },
}
"""For the roles whose keys belong to somebody: every door that the role opens. A lead, a channel, a reader and an admin
have nothing of their own."""
