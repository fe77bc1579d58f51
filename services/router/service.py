"""The router: what it is made of. Its rooms: work and organigram (states), table and matching (rules), decide, react,
duties, views, api."""

from events.case import UnitKind
from events.operations import QueuePublished, RoutingRule, RoutingTablePublished, UnitPublished
from services.router import PATHS
from services.router.api import doors
from services.router.decide import BUILT_IN_QUEUE
from services.router.duties import match
from services.router.organigram import QUEUE, TABLE, UNIT
from services.router.react import OFFERS, REACTOR
from services.router.views import AGENTS, QUEUES, ROUTING_TABLES, UNITS, WORK
from services.runtime import BuiltIn, Service

_DEFAULT = RoutingRule(rule="default", queue_id=BUILT_IN_QUEUE)

SERVICE = Service(
    name="router",
    sentence="knows the units and agents, decides where a case goes, and offers it to one agent at a time",
    paths=PATHS,
    doors=doors,
    inline=(WORK, AGENTS, UNITS, QUEUES, ROUTING_TABLES),
    reactors=(REACTOR,),
    timers=(OFFERS,),
    built_in=(
        BuiltIn(UNIT("general"), UnitPublished(version=1, name="General", kind=UnitKind.FRONT_END)),
        BuiltIn(UNIT("escalation"), UnitPublished(version=1, name="Escalation", kind=UnitKind.ESCALATION)),
        BuiltIn(QUEUE(BUILT_IN_QUEUE), QueuePublished(version=1, name="General", unit_id="general")),
        BuiltIn(TABLE(), RoutingTablePublished(version=1, rules=(_DEFAULT,))),
    ),
    duties=(match,),
)
