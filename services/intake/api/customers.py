"""Customers are forgotten."""

from functools import partial
from typing import Annotated

from fastapi import APIRouter, Path, Response

from events.database import Connection
from events.operations import Role
from events.privacy import Keyring
from services.intake.decide import customers as decide
from services.intake.decide.customers import CUSTOMER
from services.web import Answer, Caller, Door, written

CustomerRef = Annotated[
    str, Path(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:@/+-]{0,99}$", description="A `customer_ref` as a case names it.")
]


class Erased(Answer):
    customer_ref: str
    erased: bool = True


async def erase(keyring: Keyring, customer_ref: str, conn: Connection) -> bool:
    """Destroy the customer's key; whether there was one, now or ever."""
    known = await conn.fetchval("select true from person where person = $1", customer_ref)
    if known:
        await keyring.erase(conn, [customer_ref])
    return bool(known)


def add(router: APIRouter, door: Door) -> None:
    """The routes of `/v1/customers`."""
    host, erases = door.host, door.caller(Role.LEAD)

    @router.delete("/v1/customers/{customer_ref}", summary="Forget a customer")
    async def forget(customer_ref: CustomerRef, response: Response, caller: Annotated[Caller, erases]) -> Erased:
        """Destroy the key under which everything about the customer is sealed, everywhere, for good.

        Their cases stay, without a readable word of theirs: texts read `{"redacted": "erased"}`. Nothing more can be
        written about them; if they come in again, they are somebody new.
        """
        changed = await host.store.change(
            decide.FOLD(CUSTOMER + customer_ref),
            decision=decide.erase,
            look=partial(erase, host.keyring, customer_ref),
            actor=caller.actor,
        )
        written(response, changed)
        return Erased(customer_ref=customer_ref)
