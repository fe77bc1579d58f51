"""Keys and customers: issued and revoked once, erased once."""

from functools import partial

from events.errors import Refused, Unknown
from events.operations import CustomerErased, KeyIssued, KeyRevoked
from events.testing import given
from services.intake.decide import customers, keys
from tests.given import an

ISSUED = an(KeyIssued)
REVOKED = an(KeyRevoked)
ANNA = "key:anna-1"
KIM = "customer:7d1f"


def test_a_key_is_issued_once_and_keeps_its_secret() -> None:
    given(keys.FOLD, subject=ANNA).when(partial(keys.issue, ISSUED)).then(ISSUED)
    given(keys.FOLD, ISSUED, subject=ANNA).when(partial(keys.issue, an(KeyIssued, sha256="0" * 64))).nothing()


def test_a_key_is_revoked_once() -> None:
    given(keys.FOLD, ISSUED, subject=ANNA).when(partial(keys.revoke, "admin", "lost")).then(KeyRevoked(reason="lost"))
    given(keys.FOLD, ISSUED, REVOKED, subject=ANNA).when(partial(keys.revoke, "admin", "lost")).nothing()


def test_a_key_that_was_never_issued_cannot_be_revoked() -> None:
    given(keys.FOLD, subject=ANNA).when(partial(keys.revoke, "admin", "lost")).rejects(Unknown, "no key anna-1")


def test_nobody_revokes_the_key_they_call_with() -> None:
    given(keys.FOLD, ISSUED, subject=ANNA).when(partial(keys.revoke, "anna-1", "lost")).rejects(Refused, "another")


def test_a_customer_is_erased_once() -> None:
    given(customers.FOLD, subject=KIM).when(customers.erase, looked=True).then(CustomerErased())
    given(customers.FOLD, an(CustomerErased), subject=KIM).when(customers.erase, looked=True).nothing()


def test_a_customer_nobody_knows_cannot_be_erased() -> None:
    given(customers.FOLD, subject=KIM).when(customers.erase, looked=False).rejects(Unknown, "no customer 7d1f")
