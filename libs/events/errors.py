"""What can go wrong, as sentences a caller can act on.

CasewalkError
├── Refused            the request is understood and not allowed now            409
│   ├── Stale          the caller decided on an older version                   412
│   └── Reused         the idempotency key was used for another request         422
├── Unknown            there is nothing under this id                           404
├── Invalid            the request itself is wrong                              422
│   └── TooLarge       the event would exceed what one record may carry         413
├── Unavailable        not now; try again after `retry_after_s`                 503
│   └── Busy           live work goes first; try again after `retry_after_s`    429
└── Undecodable        a record that is no event of ours; it is parked
"""


class CasewalkError(Exception):
    """The root. `status` is the HTTP status a door answers with; `kind` is stable and machine-readable."""

    status = 500
    kind = "error"

    def __init__(self, message: str, **facts: object) -> None:
        super().__init__(message)
        self.message = message
        self.facts = facts


class Refused(CasewalkError):
    status, kind = 409, "refused"


class Stale(Refused):
    status, kind = 412, "stale"


class Reused(Refused):
    status, kind = 422, "key-reused"


class Unknown(CasewalkError):
    status, kind = 404, "unknown"


class Invalid(CasewalkError):
    status, kind = 422, "invalid"


class TooLarge(Invalid):
    status, kind = 413, "too-large"


class Unavailable(CasewalkError):
    status, kind = 503, "unavailable"

    def __init__(self, message: str, retry_after_s: int = 1, **facts: object) -> None:
        super().__init__(message, **facts)
        self.retry_after_s = retry_after_s


class Busy(Unavailable):
    status, kind = 429, "busy"


class Undecodable(CasewalkError):
    kind = "undecodable"
