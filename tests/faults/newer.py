"""`python -m tests.faults.newer serve …`: the program as its next version may be, with all views of metrics anew."""

from __future__ import annotations

import sys
from dataclasses import replace

from services.__main__ import SERVICES, command_line
from services.metrics.service import SERVICE as METRICS
from services.runtime.zones import only_the_wheel

NEWER = replace(METRICS, views=tuple(replace(view, version=view.version + 1) for view in METRICS.views))

if __name__ == "__main__":
    only_the_wheel()
    sys.exit(command_line()(obj=[NEWER if service is METRICS else service for service in SERVICES], prog_name="newer"))
