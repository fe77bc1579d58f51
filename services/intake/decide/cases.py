"""The life of a case as intake decides it: opened, talked about, resolved, reopened, closed; observed, taken over.

Intake refuses by its own stream alone: it does not ask where the case is queued or who owns it. Every decision gets
what was asked, `now`, and the `Life` its stream adds up to, and returns what happens next. An order that is done
already is no events; one that does not fit is refused with the reason and what to do instead.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal

from events.case import (
    ENDED,
    Case,
    CaseClassified,
    CaseClosed,
    CaseFlagged,
    CaseLinked,
    CaseObserved,
    CaseOpened,
    CaseReopened,
    CaseResolved,
    CaseTakenOver,
    Category,
    FeedbackReceived,
    MessageReceived,
    MessageSent,
    Priority,
    address,
)
from events.case import evolve as evolve_case
from events.errors import Invalid, Refused, Unknown
from events.event import CASES, CaseEvent, Key, Recorded
from events.personal import Clear, Redacted, personal_fields
from events.store import Fold, New
from events.store.shapes import AHEAD, OLDEST
from services.intake.decide.addresses import leads_to

UNKNOWN = "unknown"
"""What a taken over case says where the other system said nothing."""

# ---------------------------------------------------------------------------------------- what a stream adds up to


@dataclass(frozen=True, slots=True)
class Life:
    """A case as intake's own events tell it."""

    case: Case
    moved_at: datetime | None = None
    """When it last was opened, observed, taken over, resolved, reopened or closed: no later move happens before."""
    began_at: datetime | None = None
    """When the episode began that it is in."""
    opened: CaseOpened | None = None
    """As it came in, whatever was said about it since."""
    classified_at: datetime | None = None
    """When it was last said how it is seen: when it came in, or later."""
    flags: frozenset[str] = frozenset()
    """What was noticed in this episode."""
    code: str | None = None
    """What the last resolution was called here."""
    reopened_for: str | None = None
    resolved: frozenset[int] = frozenset()
    """The episodes that came to a resolution."""
    answers: tuple[FeedbackReceived, ...] = ()
    duplicate_of: str | None = None
    """The case that goes on in its place."""
    messages: frozenset[str] = frozenset()
    ordinals: frozenset[int] = frozenset()
    """The rows of the other system's history that are known."""
    promises: tuple[str, ...] | None = None
    """What its first row asked to be judged by, id@version; None before there was one."""
    observed: Key | None = None
    """The latest of them by its own time: an older row that comes later moves nothing."""

    @property
    def exists(self) -> bool:
        return self.case.first_at is not None

    @property
    def ended(self) -> bool:
        return self.case.category in ENDED

    @property
    def closed(self) -> bool:
        return self.case.category is Category.CLOSED

    @property
    def person(self) -> str:
        """Under whose key the case's texts are sealed; a case without a known customer is a person of its own."""
        return self.case.customer_ref or self.case.case_id


def initial(case_id: str) -> Life:
    """A case of which nothing is known."""
    return Life(Case(case_id))


def evolve(life: Life, event: Recorded[CaseEvent]) -> Life:
    """The life after one more of intake's own events."""
    if isinstance(event.data, CaseObserved):
        return _observed(life, event.data, event)
    life = replace(life, case=evolve_case(life.case, event))
    at = event.occurred_at
    match event.data:
        case CaseOpened() as opened:
            return replace(life, moved_at=at, began_at=at, classified_at=at, opened=opened)
        case CaseTakenOver():
            return replace(life, moved_at=at, began_at=at, classified_at=max(at, life.classified_at or at))
        case CaseClassified():
            return replace(life, classified_at=at)
        case CaseFlagged(flag=flag):
            return replace(life, flags=life.flags | {flag})
        case MessageReceived() | MessageSent() as message:
            return replace(life, messages=life.messages | {message.message_id})
        case CaseResolved() as resolved:
            return replace(life, moved_at=at, code=resolved.code, resolved=life.resolved | {resolved.episode})
        case CaseReopened() as reopened:
            life = replace(life, moved_at=at, began_at=at, code=None, flags=frozenset())
            return replace(life, reopened_for=reopened.reason, duplicate_of=None)
        case CaseClosed():
            return replace(life, moved_at=at)
        case CaseLinked(relation="duplicate_of", case_id=survivor):
            return replace(life, duplicate_of=survivor)
        case FeedbackReceived() as answer:
            return replace(life, answers=(*life.answers, answer))
        case _:
            return life


def _observed(life: Life, row: CaseObserved, event: Recorded[CaseEvent]) -> Life:
    ordinals, key = life.ordinals | {row.ordinal}, event.key
    life = replace(life, promises=row.promises if life.promises is None else life.promises)
    if life.case.live or (life.observed is not None and key < life.observed):
        return replace(life, ordinals=ordinals)
    case = evolve_case(life.case, event)
    ends = row.resolution or case.category in ENDED
    resolved = life.resolved | {case.episode} if ends else life.resolved
    return replace(life, case=case, moved_at=event.occurred_at, ordinals=ordinals, observed=key, resolved=resolved)


FOLD = Fold(CASES, initial, evolve)

# --------------------------------------------------------------------------------------------------------- opening


class Known(Refused):
    """There is a case under this id already; whether it is the same one, its texts must tell: ask `open_again`."""


def open_case(opened: CaseOpened, at: datetime | None, now: datetime, life: Life) -> list[New]:
    """Open a case. `at` is when the customer came in (None: now). Raises Known where there is a case already."""
    if life.exists:
        raise Known(f"this contact is case {life.case.case_id} already", case_id=life.case.case_id)
    return [New(opened, happened(at, now))]


def open_again(opened: CaseOpened, now: datetime, life: Life, texts: Mapping[str, str | Redacted]) -> list[New]:
    """The same contact once more: nothing happens if it says the same, whenever it says that it came in.

    `texts` are the personal fields as they were recorded, by their names. Raises Refused when anything differs.
    """
    said = {name: text for name in personal_fields(CaseOpened) if (text := getattr(opened, name)) is not None}
    same = life.opened is not None and _unsealed(opened) == _unsealed(life.opened)
    if same and said == {name: Clear(life.person, text) for name, text in texts.items()}:
        return []
    raise Refused(
        f"this contact is case {life.case.case_id} already, with other content;"
        " send what is new as a message on that case, or use another external_id",
        case_id=life.case.case_id,
    )


def _unsealed(opened: CaseOpened) -> dict[str, object]:
    """What a contact says beside its texts."""
    return opened.model_dump(exclude={*personal_fields(CaseOpened), "external_id"})


# -------------------------------------------------------------------------------------------------------- messages


@dataclass(frozen=True, slots=True)
class Message:
    """What somebody wants written on a case. Without `channel` it goes where the case came from."""

    message_id: str
    text: str
    channel: str | None = None
    visibility: Literal["public", "internal"] = "public"
    automatic: bool = False
    waits_for: Literal["customer", "internal"] | None = None
    title: str | None = None
    to: str | None = None
    """The address it was sent to; only the case's own is right."""


def receive(message: Message, at: datetime | None, now: datetime, life: Life) -> list[New]:
    """The customer wrote: a resolved case is reopened by it, an observed one taken over, a closed one stays closed."""
    if message.message_id in life.messages:
        return []
    when = _talked(message.to, at, now, life)
    moves = _contacted(life, _since(when, now, life), "the customer wrote again")
    received = MessageReceived(
        message_id=message.message_id,
        channel=message.channel or life.case.channel or UNKNOWN,
        title=None if message.title is None else Clear(life.person, message.title),
        body=Clear(life.person, message.text),
        to=message.to,
    )
    return [*moves, New(received, when)]


def send(message: Message, at: datetime | None, now: datetime, life: Life) -> list[New]:
    """Somebody of ours or a partner's wrote. A resolved case stays resolved by it."""
    if message.message_id in life.messages:
        return []
    when = _talked(message.to, at, now, life)
    moves = [] if life.ended else _contacted(life, _since(when, now, life))
    sent = MessageSent(
        message_id=message.message_id,
        channel=message.channel or life.case.channel or UNKNOWN,
        visibility=message.visibility,
        automatic=message.automatic,
        waits_for=message.waits_for,
        body=Clear(life.person, message.text),
    )
    return [*moves, New(sent, when)]


def _talked(to: str | None, at: datetime | None, now: datetime, life: Life) -> datetime:
    must_exist(life)
    if to is not None and not leads_to(to, life.case.case_id):
        raise Invalid(f"{to} is not the address of this case; its own is {address(life.case.case_id)}")
    if life.closed:
        raise Refused(f"case {life.case.case_id} is closed; open a new case for what is new", case_id=life.case.case_id)
    when = happened(at, now)
    if life.case.opened_at is not None and when < life.case.opened_at:
        raise Invalid(f"the case began at {utc(life.case.opened_at)}; nothing was said on it before")
    return when


# --------------------------------------------------------------------------------------- resolve, reopen and close


Resolver = Literal["agent", "partner", "escalation", "customer", "system"]


def resolve(by: Resolver, code: str | None, at: datetime | None, now: datetime, life: Life) -> list[New]:
    """End the episode with an answer. Raises Refused when it ended already under another code."""
    must_exist(life)
    if life.ended:
        if code is None or life.code is None or code == life.code:
            return []
        raise Refused(f"the case was resolved as {life.code}; reopen it to resolve it as {code}")
    when = _moved(at, now, life)
    return [
        *_contacted(life, when),
        New(CaseResolved(episode=life.case.episode, by=by, code=code or "solved"), when),
    ]


def reopen(reason: str, at: datetime | None, now: datetime, life: Life) -> list[New]:
    """Begin the next episode of a resolved case. Raises Refused for a case that is open, or closed for good."""
    must_exist(life)
    if life.closed:
        raise Refused("the case is closed; open a new case for what is new")
    if not life.ended:
        if life.reopened_for == reason:
            return []
        raise Refused(f"the case is open, in episode {life.case.episode}; there is nothing to reopen")
    return _contacted(life, _moved(at, now, life), reason)


def close(reason: str, at: datetime | None, now: datetime, life: Life) -> list[New]:
    """Expect nothing more on a resolved case. Raises Refused for one that is not resolved."""
    must_exist(life)
    if life.closed:
        return []
    if not life.ended:
        raise Refused("the case is not resolved; resolve it before you close it")
    return [New(CaseClosed(episode=life.case.episode, reason=reason), _moved(at, now, life))]


def feedback(
    episode: int | None,
    accepted: bool | None,
    csat: int | None,
    nps: int | None,
    at: datetime | None,
    now: datetime,
    life: Life,
) -> list[New]:
    """The customer's answer about an episode that was resolved, once; without `episode`, about the last of them."""
    must_exist(life)
    about = episode or max(life.resolved, default=life.case.episode)
    if about not in life.resolved:
        raise Refused(f"episode {about} was not resolved; there is nothing yet to judge")
    answer = FeedbackReceived(episode=about, accepted=accepted, csat=csat, nps=nps)
    if answer in life.answers:
        return []
    if any(given.episode == about for given in life.answers):
        raise Refused(f"the customer answered about episode {about} already; an answer is not changed")
    return [New(answer, happened(at, now))]


# ------------------------------------------------------------------------------------------ history of other systems


@dataclass(frozen=True, slots=True)
class Row:
    """One row of another system's history; `id` is made of the row, so that the same row is the same event."""

    observed: CaseObserved
    at: datetime
    id: str


def observe(rows: Sequence[Row], now: datetime, life: Life) -> list[New]:
    """The rows that are not known yet, in their order; rows of an impossible time are left out.

    What a case's history is judged by is settled with the first row of it that comes, for all of them: clocks of half a
    history would be no clocks.
    """
    known, promises = set(life.ordinals), life.promises
    fresh = []
    for row in rows:
        if row.observed.ordinal not in known and OLDEST <= row.at <= now + AHEAD:
            known.add(row.observed.ordinal)
            promises = row.observed.promises if promises is None else promises
            same = row.observed.promises == promises
            observed = row.observed if same else row.observed.model_copy(update={"promises": promises})
            fresh.append(New(observed, row.at, row.id))
    return fresh


def _contacted(life: Life, at: datetime, again: str | None = None) -> list[New]:
    """What live contact moves by itself: an observed case becomes ours, an ended one goes on for the reason `again`.

    The take-over names the episode it begins with, so that whoever hears of it works on the right one.
    """
    case, moves = life.case, list[New]()
    reopened = life.ended and again is not None
    episode = case.episode + reopened
    if not case.live:
        taken_over = CaseTakenOver(
            episode=episode,
            channel=case.channel or UNKNOWN,
            market=case.market or UNKNOWN,
            language=case.language or UNKNOWN,
            journey=case.journey or UNKNOWN,
            priority=case.priority or Priority.NORMAL,
            tier=case.tier,
            customer_ref=life.person,
        )
        moves.append(New(taken_over, at))
    if reopened and again is not None:
        moves.append(New(CaseReopened(episode=episode, reason=again), at))
    return moves


# -------------------------------------------------------------------------------------------------------- when it was


def happened(at: datetime | None, now: datetime) -> datetime:
    """When it happened. A clock up to five minutes ahead of ours means now; the store refuses what is further off."""
    return now if at is None or now < at <= now + AHEAD else at


def _moved(at: datetime | None, now: datetime, life: Life) -> datetime:
    """When the case moved. Before its last move it cannot have: folds in order of time would end elsewhere."""
    when = happened(at, now)
    if life.moved_at is None or when >= life.moved_at:
        return when
    if at is None:
        return life.moved_at
    raise Invalid(f"the case moved last at {utc(life.moved_at)}; this cannot have happened before")


def _since(when: datetime, now: datetime, life: Life) -> datetime:
    """When what was said at `when` moves the case: told late, it does so when we hear it."""
    return when if life.moved_at is None or when >= life.moved_at else max(now, life.moved_at)


def utc(at: datetime) -> str:
    """As sentences say it."""
    return at.isoformat().replace("+00:00", "Z")


def must_exist(life: Life) -> None:
    """Raises Unknown for a case of which nothing is known."""
    if not life.exists:
        raise Unknown(f"there is no case {life.case.case_id}")
