"""Plays the day through the REST API: customers come; agents, partners and the escalation's owner do their part."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from random import Random
from typing import Any

from events.case import ENDED
from services.commands.client import Client, ServerRefused
from services.commands.demo import town
from services.commands.demo.script import QUEUES, Act, Visit

LOOK_EVERY_S = 0.25
"""How often the staff looks for work."""

VISITS_PER_S = 14

THINK_S = (0.02, 0.2)
"""How long people think before they do something."""

END_LIMIT_S = 150.0

TEXTS = {
    Act.ASK: "Could you tell us the number on the label?",
    Act.ASK_IN_VAIN: "Could you tell us the number on the label?",
    Act.NOTE: "The log shows the same fault twice this week.",
    Act.TO_ITS_ADDRESS: "Here is what the authority sent me.",
    Act.RESOLVE: "It is done: you will have a confirmation within the hour.",
}


@dataclass(frozen=True)
class Staff:
    """Everybody's clients: who acts is known by their key."""

    lead: Client
    channels: Mapping[str, Client]
    agents: Mapping[str, Client]
    partners: Mapping[str, Client]


@dataclass
class Case:
    """A visit that became a case, and what is still to be done about it."""

    visit: Visit
    case_id: str
    acts: deque[Act]

    def next_act(self) -> Act:
        """What whoever has it now does; a case that left its story is resolved."""
        return self.acts.popleft() if self.acts else Act.RESOLVE

    def is_next(self, act: Act) -> bool:
        """Whether `act` comes next; then it is taken."""
        if not self.acts or self.acts[0] is not act:
            return False
        self.acts.popleft()
        return True


class Day:
    """One day's play; `ended` is called for every case that is done."""

    def __init__(self, staff: Staff, seed: int, ended: Callable[[], None]) -> None:
        self.staff, self._ended, self._random = staff, ended, Random(seed)
        self.cases: dict[str, Case] = {}
        self.last_positions: deque[str] = deque(maxlen=50)
        """The latest writes: who has seen these has seen the day."""
        self._left: set[int] = set()
        self._all_ended = asyncio.Event()
        self._desks = {agent_id: asyncio.Lock() for agent_id in staff.agents}

    async def play(self, visits: Sequence[Visit]) -> None:
        """Until every visit's story is told. Raises TimeoutError after `END_LIMIT_S`."""
        self._left = {visit.number for visit in visits}
        async with asyncio.timeout(END_LIMIT_S), asyncio.TaskGroup() as group:
            watching = [group.create_task(watch) for watch in self._watches(group)]
            for visit in visits:
                group.create_task(self._come(visit))
                await asyncio.sleep(1 / VISITS_PER_S)
            await self._all_ended.wait()
            for task in watching:
                task.cancel()

    def left(self) -> str:
        """Whose story is not told yet."""
        open_cases = [case for case in self.cases.values() if case.visit.number in self._left]
        told = [f"case {case.case_id} ({', '.join(case.visit.acts)})" for case in open_cases[:5]]
        return f"{len(self._left)} of the visits are left, among them {'; '.join(told) or 'none that became a case'}"

    def case_of(self, acts: tuple[Act, ...]) -> str:
        """The id of the first case with this story."""
        return next(case.case_id for case in self.cases.values() if case.visit.acts == acts)

    def _watches(self, group: asyncio.TaskGroup) -> Iterable[Coroutine[Any, Any, None]]:
        lead = self.staff.lead
        yield self._watch(group, lead, "/v1/work", "offered", "offer_id", self._offered)
        yield self._watch(group, lead, "/v1/escalations", "open", "escalation_id", self._escalated)
        for partner_id, client in self.staff.partners.items():
            path = f"/v1/partners/{partner_id}/cases"
            yield self._watch(group, client, path, "handed_over", "order_id", self._handed_over)

    async def _watch(
        self,
        group: asyncio.TaskGroup,
        client: Client,
        path: str,
        status: str,
        id_field: str,
        react: Callable[[Case, dict[str, Any]], Awaitable[None]],
    ) -> None:
        """Look again and again, and let somebody react to everything that is new and of this day."""
        known: set[str] = set()
        while True:
            async for item in client.all(path, status=status, limit=500):
                case = self.cases.get(item["case_id"])
                if case is not None and item[id_field] not in known:
                    known.add(item[id_field])
                    group.create_task(_unless_overtaken(react(case, item)))
            await asyncio.sleep(LOOK_EVERY_S)

    # ------------------------------------------------------------------------------------------------ the customers

    async def _come(self, visit: Visit) -> None:
        answer = await self._channel(visit).post("/v1/cases", visit.order)
        case_id = answer.body["case_id"]
        self.cases[case_id] = Case(visit, case_id, deque(visit.acts))

    async def _hear_the_customer(self, case: Case) -> None:
        """What the customer says once the case is resolved."""
        channel = self._channel(case.visit)
        # A partner's or the escalation unit's resolution becomes the case's own a moment later.
        while True:
            await self._think()
            if (await channel.get(f"/v1/cases/{case.case_id}")).body["category"] in ENDED:
                break
        if case.is_next(Act.REOPEN):
            await channel.post(f"/v1/cases/{case.case_id}:reopen", {"reason": "it happened again"})
            return
        if case.visit.survey is not None:
            await self._do(channel, f"/v1/cases/{case.case_id}/feedback", case.visit.survey)
        self._end(case)

    def _channel(self, visit: Visit) -> Client:
        return self.staff.channels[visit.order["channel"]]

    # --------------------------------------------------------------------------------------------------- the agents

    async def _offered(self, case: Case, offer: dict[str, Any]) -> None:
        agent_id, work = offer["agent_id"], f"/v1/work/{case.case_id}"
        agent = self.staff.agents[agent_id]
        me = {"agent_id": agent_id}
        async with self._desks[agent_id]:
            await self._think()
            if case.is_next(Act.DECLINE):
                await self._do(agent, f"{work}:decline", {**me, "reason": "my shift ends now"})
                return
            await self._do(agent, f"{work}:accept", {**me, "offer_id": offer["offer_id"]})
            last = await self._handle(case, agent, me)
        if last is Act.WARNED:
            await self._warned(case, agent)
            last = await self._handle(case, agent, me)
        if last is Act.RESOLVE:
            await self._hear_the_customer(case)
        elif last is Act.ASK_IN_VAIN:
            self._end(case)

    async def _handle(self, case: Case, agent: Client, me: dict[str, str]) -> Act:
        """The agent's acts up to the one that ends their part, which is returned."""
        while True:
            await self._think()
            act = case.next_act()
            match act:
                case Act.ASK | Act.ASK_IN_VAIN:
                    await self._write(agent, case, TEXTS[act], waits_for="customer")
                    if act is Act.ASK_IN_VAIN:
                        return act
                    await self._think()
                    reply = {"direction": "in", "body": "It says CW-2041."}
                    await self._do(self._channel(case.visit), f"/v1/cases/{case.case_id}/messages", reply)
                case Act.NOTE:
                    await self._write(agent, case, TEXTS[act], visibility="internal")
                case Act.TO_BILLING | Act.TO_TECHNICAL | Act.TO_PARTNER:
                    order = {**me, "queue_id": QUEUES[act], "reason": "needs a specialist"}
                    await self._do(agent, f"/v1/work/{case.case_id}:transfer", order)
                    return act
                case Act.ESCALATE:
                    await self._do(agent, "/v1/escalations", {"case_id": case.case_id, "reason": "promised twice"})
                    return act
                case Act.REGULATOR:
                    order = {"flag": "regulator", "reason": "the authority for consumers asks"}
                    await self._do(agent, f"/v1/cases/{case.case_id}:flag", order)
                    return act
                case Act.HOLD | Act.WARNED:
                    return act
                case _:
                    await self._write(agent, case, TEXTS[Act.RESOLVE])
                    await self._do(agent, f"/v1/cases/{case.case_id}:resolve", {})
                    return Act.RESOLVE

    async def _warned(self, case: Case, agent: Client) -> None:
        """Until somebody would be told that the resolution's promise is at risk."""
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            clocks = (await agent.get("/v1/clocks", case=case.case_id)).body["items"]
            if any(one["warned"] for one in clocks if one["clock"] == "resolution"):
                return

    # ------------------------------------------------------------------------- partners and the escalation's owner

    async def _handed_over(self, case: Case, order: dict[str, Any]) -> None:
        partner_id = order["partner_id"]
        partner, path = self.staff.partners[partner_id], f"/v1/partners/{partner_id}/cases/{case.case_id}"
        await self._think()
        accepted = await self._do(partner, f"{path}:accept", {})
        await self._think()
        if case.next_act() is Act.GIVE_BACK:
            await self._do(partner, f"{path}:return", {"reason": "no technician near the customer"})
            return
        await self._write(partner, case, TEXTS[Act.RESOLVE], after=accepted)
        await self._do(partner, f"{path}:resolve", {})
        await self._hear_the_customer(case)

    async def _escalated(self, case: Case, escalation: dict[str, Any]) -> None:
        owner_id = town.OWNERS[escalation["unit_id"]].id
        owner, path = self.staff.agents[owner_id], f"/v1/escalations/{escalation['escalation_id']}"
        await self._think()
        owned = (await owner.post(f"{path}:acknowledge", {"owner": owner_id})).body
        await self._think()
        if case.is_next(Act.TO_ITS_ADDRESS):
            mail = {**case.visit.order, "body": TEXTS[Act.TO_ITS_ADDRESS], "to": owned["address"]}
            await self._do(self._channel(case.visit), "/v1/cases", mail)
            await self._think()
        case.next_act()
        await self._write(owner, case, TEXTS[Act.RESOLVE])
        await self._do(owner, f"{path}:resolve", {})
        await self._hear_the_customer(case)

    # ---------------------------------------------------------------------------------------------------- by anybody

    async def _write(self, client: Client, case: Case, body: str, after: str | None = None, **more: str) -> None:
        message = {"direction": "out", "body": body, **more}
        await self._do(client, f"/v1/cases/{case.case_id}/messages", message, after=after)

    async def _do(self, client: Client, path: str, body: object, after: str | None = None) -> str | None:
        """Order it, and remember its position, which is returned."""
        position = (await client.post(path, body, after=after)).position
        if position is not None:
            self.last_positions.append(position)
        return position

    async def _think(self) -> None:
        await asyncio.sleep(self._random.uniform(*THINK_S))

    def _end(self, case: Case) -> None:
        self._left.discard(case.visit.number)
        self._ended()
        if not self._left:
            self._all_ended.set()


async def _unless_overtaken(work: Awaitable[None]) -> None:
    """An offer that was withdrawn, a case that was escalated meanwhile: whoever was at it lets go."""
    try:
        await work
    except ServerRefused as refused:
        if refused.status != HTTPStatus.CONFLICT:
            raise
