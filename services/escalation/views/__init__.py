"""Escalation's tables: configuration in force, what running clocks owe, escalations. Inline, as decisions need them."""

from services.escalation.views.calendars import CALENDARS
from services.escalation.views.clocks import CLOCKS
from services.escalation.views.escalations import ESCALATIONS
from services.escalation.views.ladders import LADDERS
from services.escalation.views.promises import PROMISES

INLINE = (CALENDARS, PROMISES, LADDERS, CLOCKS, ESCALATIONS)
