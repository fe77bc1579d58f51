"""Escalation's tables: configuration in force, what running clocks owe, escalations. Inline, as decisions need them."""

from services.escalation.views.clocks import CLOCKS
from services.escalation.views.configuration import CALENDARS, LADDERS, PROMISES
from services.escalation.views.escalations import ESCALATIONS

INLINE = (CALENDARS, PROMISES, LADDERS, CLOCKS, ESCALATIONS)
