"""The bodies of new cases; imports nothing, so that the load starts at once."""

from typing import Any

MARKETS = ("de", "fr", "es", "it", "pl")
JOURNEYS = ("order", "delivery", "return", "billing", "technical", "account")
CHANNELS = ("email", "chat", "phone", "web-form", "app")
BODY = "Es sollte am Freitag kommen und ist noch nicht da. Ich habe schon zweimal angerufen. " * 4


def opening(n: int, customer: str) -> dict[str, Any]:
    """The body of a `POST /v1/cases`, about 600 bytes."""
    return {
        "channel": CHANNELS[n % 5],
        "market": MARKETS[n % 5],
        "language": MARKETS[n % 5],
        "journey": JOURNEYS[n % 6],
        "subject": "Wo ist mein Paket?",
        "body": BODY,
        "customer": {"external_id": customer, "name": "Kim Ünal", "email": "kim@customer.example"},
        "priority": "normal",
    }
