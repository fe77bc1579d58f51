"""`python -m bench`: every row beside its yardstick, as a table.

To add a row: a module in `bench/rows/` with a `measure` that yields `Row`s, and its line in `measured`.
"""

from __future__ import annotations

import logging
import shlex
import sys
import traceback
from argparse import ArgumentParser, Namespace
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from time import perf_counter

import structlog
import uvloop

from bench import report
from bench.ground import Ground, ends_in_order
from bench.report import Row
from bench.rows import figures, importing, latency, neighbours, opening, projecting
from services.process import collect_seldom, only_the_wheel

SIZES, QUICK, SMOKE = (10_000, 100_000, 1_000_000), (2_000, 10_000, 20_000), (100, 100, 100)
"""Small, large, and largest where a row is said to stay flat."""

Rows = Callable[[Ground], AsyncIterator[Row]]


def measured(small: int, large: int, largest: int) -> dict[str, Rows]:
    """Name → what measures it."""
    sizes, up_to_largest = sorted({small, large}), sorted({small, large, largest})
    return {
        "opening": lambda ground: opening.measure(ground, sizes),
        "projecting": lambda ground: projecting.measure(ground, sizes, largest),
        "importing": lambda ground: importing.measure(ground, up_to_largest),
        "latency": lambda ground: latency.measure(ground, sorted({small // 10, large // 10})),
        "neighbours": lambda ground: neighbours.measure(ground, sizes),
        "figures": lambda ground: figures.measure(ground, up_to_largest),
    }


def arguments(given: list[str]) -> Namespace:
    parser = ArgumentParser("make bench ARGS=…", description="Measure speed as ratios, side by side in one run.")
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", dest="sizes", action="store_const", const=QUICK, default=SIZES, help="small sizes")
    size.add_argument("--smoke", dest="sizes", action="store_const", const=SMOKE, help="whether it still runs")
    parser.add_argument("--only", nargs="+", default=sorted(measured(*SIZES)), choices=sorted(measured(*SIZES)))
    parser.add_argument("--engine", choices=("embedded", "all"), default="all", help="embedded leaves Kafka out")
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the table as a page too")
    return parser.parse_args(given)


async def main(given: list[str]) -> int:
    """0 when everything was measured, whatever it came to: a shortfall is said in the table. What breaks off keeps no
    other row from being measured."""
    asked = arguments(given)
    ends_in_order()
    rows: list[Row] = []
    failed: list[str] = []
    began = perf_counter()
    with Ground.laid(kafka=asked.engine == "all") as ground:
        for name, measure in measured(*asked.sizes).items():
            if name not in asked.only:
                continue
            try:
                async for row in measure(ground):
                    print(f"{row.what}, {row.size}, {row.engine}: {row.ours}; {row.ratio}", file=sys.stderr, flush=True)
                    rows.append(row)
            except Exception:  # noqa: BLE001 — whatever it was, it is printed, and hours may have been measured
                traceback.print_exc()
                failed.append(name)
    took_s = perf_counter() - began
    report.show(rows, took_s)
    if asked.write is not None:
        report.write(rows, took_s, shlex.join(given), failed, asked.write)
    if failed:
        print(f"not measured to the end: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    only_the_wheel()
    collect_seldom()
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # it tells of every topic that is only being made
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    sys.exit(uvloop.run(main(sys.argv[1:])))
