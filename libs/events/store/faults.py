"""Whose fault it is when the database refuses a transaction: nobody's, or one change's."""

from __future__ import annotations

import asyncpg

from events.errors import Invalid, Reused
from events.store.shapes import Change, Retry

LOST_RACE = (
    asyncpg.DeadlockDetectedError,
    asyncpg.SerializationError,
    asyncpg.LockNotAvailableError,
    asyncpg.InvalidCachedStatementError,
)
"""Nothing happened, and the same again may well succeed."""

PASSING = (
    *LOST_RACE,
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,  # shut down, starting up, cancelled
    asyncpg.InsufficientResourcesError,
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.TransactionTimeoutError,
    asyncpg.ReadOnlySQLTransactionError,  # a standby, until somebody promotes it
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # what asyncpg says where a connection is cut in the middle of an answer
    OSError,
)
"""The whole transaction is lost; no change in it is to blame."""

ONE_CHANGES_FAULT = (
    asyncpg.PostgresError,
    Retry,
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    AttributeError,
    AssertionError,
    RuntimeError,
)


def taken(error: BaseException, change: Change) -> bool:
    """Whether something stands already under the ids made of the change's idempotency key."""
    return change.once is not None and isinstance(error, asyncpg.UniqueViolationError)


def explained(error: BaseException, change: Change) -> BaseException:
    if taken(error, change):
        return Reused("this Idempotency-Key was used long ago, and what was answered is no longer known")
    if isinstance(error, asyncpg.DataError | asyncpg.UntranslatableCharacterError):
        invalid = Invalid("a value cannot be stored: " + str(error).splitlines()[0])
        invalid.__cause__ = error
        return invalid
    return error
