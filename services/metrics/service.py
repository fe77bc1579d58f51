"""Metrics, as data. Hears everything about every case and reacts to nothing; says what its figures mean."""

from services.metrics import PATHS, api
from services.metrics.decide import DEFINITION
from services.metrics.definitions import FIGURES
from services.metrics.views import CASE_FACTS, DEFINITIONS
from services.runtime import BuiltIn, Service

SERVICE = Service(
    name="metrics",
    sentence="folds every case into facts, walks and figures",
    paths=PATHS,
    doors=api.doors,
    views=(CASE_FACTS, DEFINITIONS),
    built_in=tuple(BuiltIn(DEFINITION(f"definition:{figure.id}"), figure.published()) for figure in FIGURES),
)
