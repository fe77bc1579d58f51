"""`python -m tests.faults.newer serve …`: the program as its next version may be, with all views of metrics anew."""

from __future__ import annotations

from dataclasses import replace

from services.__main__ import main
from services.metrics import service

METRICS = service.SERVICE

# Before the command gathers the services.
service.SERVICE = replace(METRICS, views=tuple(replace(view, version=view.version + 1) for view in METRICS.views))

if __name__ == "__main__":
    main()
