"""Intake: cases come in and live their life here; it alone knows what is personal about customers.

It says every event of a case's own life, of keys and of customers, and reads the others' to know where a case stands,
who works on it, and when a partner or an escalation unit brought it to an end.
"""

from events.operations import CustomerErased
from services.intake import PATHS, api, keys, react, views
from services.intake.decide import customers
from services.runtime import Service

SERVICE = Service(
    name="intake",
    sentence="takes in what customers bring, keeps each case's life cycle, and holds what is personal about them",
    paths=PATHS,
    doors=api.doors,
    views=views.VIEWS,
    reactors=(react.REACTOR,),
    first_start=keys.first_start,
    erasures={CustomerErased: customers.person},
)
