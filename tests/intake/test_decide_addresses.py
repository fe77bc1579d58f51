"""A case's own address, and what comes in there."""

from datetime import timedelta
from functools import partial

import pytest

from events.case import CaseClosed, CaseObserved, CaseOpened, CaseReopened, CaseResolved, MessageReceived, address
from events.errors import Invalid, Refused
from events.personal import Clear
from events.store import New
from events.testing import CASE_ID, START, given
from services.intake.decide import arriving, cases
from services.intake.decide.addresses import case_named, leads_to
from services.intake.decide.cases import FOLD, Known, Message
from tests.given import CUSTOMER, an

OWN = address(CASE_ID)
OTHER = address("0195571e-8a00-7000-8000-000000000002")
MESSAGE = Message("m-9", "It came back.", "email", title="Re: parcel", to=OWN)


def arrived(message: Message = MESSAGE) -> partial[list[New]]:
    return partial(arriving.arrive, message, None)


@pytest.mark.parametrize("to", [OWN, OWN.upper(), f"{OWN}@help.shop.example", f"Case-{CASE_ID}@Shop.Example"])
def test_a_case_is_found_by_its_own_address_with_or_without_a_host(to: str) -> None:
    assert case_named(to) == CASE_ID
    assert leads_to(to, CASE_ID)


@pytest.mark.parametrize("to", ["help@shop.example", "case-desk@shop.example", "casework", "support", "encase-1"])
def test_any_other_address_names_no_case(to: str) -> None:
    assert case_named(to) is None
    assert not leads_to(to, CASE_ID)


@pytest.mark.parametrize("to", ["case-", "case-1", "case-desk", f"{OWN}0", OWN.replace("-8a00", "8a00")])
def test_what_looks_like_a_cases_own_address_and_cannot_be_one_is_refused(to: str) -> None:
    with pytest.raises(Invalid, match="no case has it"):
        case_named(to)


def test_what_arrives_at_a_cases_own_address_is_a_message_on_it() -> None:
    given(FOLD, an(CaseOpened)).when(arrived(), now=START + timedelta(hours=1)).then(
        New(
            MessageReceived(
                message_id="m-9",
                channel="email",
                title=Clear(CUSTOMER, "Re: parcel"),
                body=Clear(CUSTOMER, "It came back."),
                to=OWN,
            ),
            START + timedelta(hours=1),
        )
    )


def test_what_arrives_on_a_resolved_case_reopens_it_as_any_message_does() -> None:
    resolved = given(FOLD, an(CaseOpened), an(CaseResolved))

    assert resolved.when(arrived()).events == resolved.when(partial(cases.receive, MESSAGE, None)).events
    resolved.when(arrived()).then_types(CaseReopened, MessageReceived)


def test_what_arrives_on_a_closed_case_is_refused_as_any_message_is() -> None:
    closed = given(FOLD, an(CaseOpened), an(CaseResolved), an(CaseClosed))

    closed.when(arrived()).rejects(Refused, "open a new case")
    closed.when(partial(cases.receive, MESSAGE, None)).rejects(Refused, "open a new case")


def test_an_address_no_case_has_is_refused() -> None:
    given(FOLD).when(arrived()).rejects(Invalid, OWN)


def test_an_observed_case_has_an_address_too() -> None:
    kinds = [type(event) for event in given(FOLD, an(CaseObserved)).when(arrived()).events]

    assert kinds[-1] is MessageReceived


def test_the_same_contact_arrives_once_and_with_other_content_is_refused() -> None:
    case = given(FOLD, an(CaseOpened)).when(arrived()).after
    texts = {"title": "Re: parcel", "body": "It came back."}
    again = partial(arriving.arrive_again, MESSAGE)

    case.when(arrived()).rejects(Known, CASE_ID)
    case.when(again, looked=texts).nothing()
    case.when(again, looked=texts | {"body": "It did not."}).rejects(Refused, "other content")


@pytest.mark.parametrize("to", [OTHER, "help@shop.example", "case-desk"])
@pytest.mark.parametrize("write", [cases.receive, cases.send])
def test_a_message_to_another_address_is_refused_with_the_right_one(write: object, to: str) -> None:
    message = Message("m-9", "Any news?", to=to)

    given(FOLD, an(CaseOpened)).when(partial(write, message, None)).rejects(Invalid, OWN)  # type: ignore[arg-type]
