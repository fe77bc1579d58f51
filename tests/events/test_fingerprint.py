"""A fold cannot change without its view's version: its fingerprint sees through every call."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest

from events.views.fingerprint import fingerprint

ORIGINAL = '''
"""Docs."""
LIMIT = 3

def _step(n):
    """What a step is."""
    return n + LIMIT

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
        ORIGINAL.replace("n + LIMIT", "n - LIMIT"),
        ORIGINAL.replace("LIMIT = 3", "LIMIT = 4"),
        ORIGINAL.replace("row or 0", "row or 1"),
    ],
)
def test_a_change_in_what_a_fold_calls_or_uses_changes_its_fingerprint(module: object, changed: str) -> None:
    first, second = module("folding_one", ORIGINAL), module("folding_two", changed)  # type: ignore[operator]
    assert _named_alike(first) != _named_alike(second)


def test_comments_and_docstrings_do_not(module: object) -> None:
    same = ORIGINAL.replace("What a step is.", "Another sentence.").replace("return n", "# a comment\n    return n")
    first, second = module("folding_one", ORIGINAL), module("folding_two", same)  # type: ignore[operator]
    assert _named_alike(first) == _named_alike(second)


def _named_alike(module: ModuleType) -> str:
    for function in (module.fold, module._step):
        function.__module__ = "folding"
    return fingerprint(module.fold)
