"""Escalation's tables: configuration in force, what running clocks owe, escalations. Inline, as decisions need them."""

from services.escalation.views.calendars import CALENDARS
from services.escalation.views.clocks import CLOCKS
from services.escalation.views.coverage import KNOWN_UNITS, PLACES
from services.escalation.views.escalations import ESCALATIONS
from services.escalation.views.issues import ISSUES
from services.escalation.views.ladders import LADDERS
from services.escalation.views.notices import NOTICES
from services.escalation.views.promises import PROMISES
from services.escalation.views.rotas import ROTAS

INLINE = (CALENDARS, PROMISES, LADDERS, ROTAS, NOTICES, ISSUES, CLOCKS, ESCALATIONS)
PROJECTED = (KNOWN_UNITS, PLACES)
