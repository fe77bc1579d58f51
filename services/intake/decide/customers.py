"""Customers who want to be forgotten."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from events.errors import Unknown
from events.event import OPERATIONS, OperationsEvent, Recorded
from events.operations import CustomerErased
from events.store import Fold

CUSTOMER = "customer:"
"""What a customer's subject starts with; the rest is the customer_ref."""


@dataclass(frozen=True, slots=True)
class Customer:
    """A customer as their own events tell it."""

    subject: str
    erased: bool = False


def evolve(customer: Customer, event: Recorded[OperationsEvent]) -> Customer:
    """The customer after one more of their events."""
    return replace(customer, erased=True) if isinstance(event.data, CustomerErased) else customer


def person(subject: str) -> str:
    """The person under whose key everything about the customer is sealed."""
    return subject.removeprefix(CUSTOMER)


FOLD = Fold(OPERATIONS, Customer, evolve)


def erase(now: datetime, customer: Customer, known: bool) -> list[CustomerErased]:
    """State that the customer's key was destroyed. `known`: there was a person of this name, whose key it was."""
    if not known:
        raise Unknown(f"there is no customer {person(customer.subject)}")
    return [] if customer.erased else [CustomerErased()]
