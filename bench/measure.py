"""Measuring side by side: subject and yardstick take turns, so that a machine that slows down slows down both."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from statistics import median
from time import perf_counter

import psutil

SAMPLE_S = 0.25


@dataclass(frozen=True)
class Pairs:
    """Rates of the same work, measured in turns; units per second."""

    subject: Sequence[float]
    yardstick: Sequence[float]

    @property
    def ratios(self) -> list[float]:
        return [ours / theirs for ours, theirs in zip(self.subject, self.yardstick, strict=True)]

    @property
    def ratio(self) -> float:
        return median(self.ratios)

    @property
    def spread(self) -> str:
        """`0.31 (0.29–0.33)`: the median of the pairs, the least and the greatest."""
        return f"{self.ratio:.2f} ({min(self.ratios):.2f}–{max(self.ratios):.2f})"


async def in_turns(
    rounds: int, subject: Callable[[], Awaitable[float]], yardstick: Callable[[], Awaitable[float]]
) -> Pairs:
    """Both, `rounds` times; each goes first in every other round."""
    ours, theirs = list[float](), list[float]()
    for number in range(rounds):
        if number % 2:
            ours.append(await subject())
            theirs.append(await yardstick())
        else:
            theirs.append(await yardstick())
            ours.append(await subject())
    return Pairs(ours, theirs)


async def rate(units: int, work: Awaitable[object]) -> float:
    """Units per second of the work."""
    began = perf_counter()
    await work
    return units / (perf_counter() - began)


def percentile(values: Iterable[float], share: float) -> float:
    """The value at position share × (n − 1) of the sorted values, interpolated."""
    ordered = sorted(values)
    at = share * (len(ordered) - 1)
    low = int(at)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (at - low)


@dataclass
class Watched:
    """How much memory processes had while they were watched: what is resident; PostgreSQL's processes share most of
    theirs, so theirs is counted proportionally (PSS)."""

    memory_mib: dict[str, float] = field(default_factory=dict)
    """The most that was seen."""

    @property
    def memory(self) -> str:
        return ", ".join(f"{name} {mib:,.0f}" for name, mib in sorted(self.memory_mib.items()))


@asynccontextmanager
async def watching(processes: dict[str, int]) -> AsyncIterator[Watched]:
    """Watch processes (name → process number), each with its children."""
    watched = Watched()
    roots = {name: psutil.Process(pid) for name, pid in processes.items()}
    sampling = asyncio.create_task(_sample(watched, roots))
    try:
        yield watched
    finally:
        sampling.cancel()
        _look(watched, roots)


async def _sample(watched: Watched, roots: dict[str, psutil.Process]) -> None:
    while True:
        _look(watched, roots)
        await asyncio.sleep(SAMPLE_S)


def _look(watched: Watched, roots: dict[str, psutil.Process]) -> None:
    for name, root in roots.items():
        mib = memory_mib(root, shared="PostgreSQL" in name)
        watched.memory_mib[name] = max(watched.memory_mib.get(name, 0.0), mib)


def memory_mib(root: psutil.Process, shared: bool = False) -> float:
    """Resident memory of a process; with `shared` that of all its family, what they share counted once."""
    if not shared:
        return float(root.memory_info().rss) / 2**20
    total = 0.0
    for process in (root, *root.children(recursive=True)):
        try:
            total += float(process.memory_full_info().pss)
        except psutil.NoSuchProcess:
            continue
    return total / 2**20


def cpu_s(root: psutil.Process) -> float:
    """Processor seconds of a process and of all its family, those that ended included."""
    total = 0.0
    for process in (root, *root.children(recursive=True)):
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system + times.children_user + times.children_system  # of those it waited for
    return total
