"""A fold cannot change without its view's version: its fingerprint sees through every call."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest

from events.views.fingerprint import fingerprint

ORIGINAL = '''
"""Docs."""
import functools

LIMIT = 3

@functools.cache
def _half(n):
    return n / 2

def _less(n):
    return n - 1

class Row:
    @property
    def less(self):
        return _less(1)

def _step(n):
    """What a step is."""
    return _half(n) + LIMIT + Row().less

def fold(row, event):
    return _step(row or 0)
'''


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> object:
    monkeypatch.syspath_prepend(tmp_path)

    def load(name: str, source: str) -> ModuleType:
        (tmp_path / f"{name}.py").write_text(source)
        sys.modules.pop(name, None)
        return __import__(name)

    return load


@pytest.mark.parametrize(
    "changed",
    [
        ORIGINAL.replace("+ LIMIT", "- LIMIT"),
        ORIGINAL.replace("n / 2", "n / 3"),
        ORIGINAL.replace("n - 1", "n - 2"),
        ORIGINAL.replace("LIMIT = 3", "LIMIT = 4"),
        ORIGINAL.replace("row or 0", "row or 1"),
    ],
)
def test_a_change_in_what_a_fold_calls_or_uses_changes_its_fingerprint(module: object, changed: str) -> None:
    first, second = module("folding_one", ORIGINAL), module("folding_two", changed)  # type: ignore[operator]
    assert _named_alike(first) != _named_alike(second)


def test_comments_and_docstrings_do_not(module: object) -> None:
    same = ORIGINAL.replace("What a step is.", "Another sentence.").replace(
        "return _half", "# a comment\n    return _half"
    )
    first, second = module("folding_one", ORIGINAL), module("folding_two", same)  # type: ignore[operator]
    assert _named_alike(first) == _named_alike(second)


def _named_alike(module: ModuleType) -> str:
    for thing in (module.fold, module._step, module._half.__wrapped__, module._less, module.Row):
        thing.__module__ = "folding"
    return fingerprint(module.fold)
