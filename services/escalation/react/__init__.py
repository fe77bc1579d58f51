"""What happens elsewhere and what escalation makes of it: `clocks` start and stop, ladders are climbed."""

from services.escalation.react import clocks, escalations, notices

REACTORS = (clocks.REACTOR, escalations.REACTOR)
TIMERS = (clocks.TIMERS, escalations.TIMERS)
NOTIFIERS = (notices.NOTIFIER,)
