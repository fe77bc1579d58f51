"""A fingerprint of what a fold does: its own code and, through every name it uses, the code of ours it calls."""

from __future__ import annotations

import ast
import functools
import hashlib
import inspect
import linecache
import textwrap
import types
from collections.abc import Callable, Iterator
from typing import Any


def fingerprint(fold: Callable[..., Any], *facts: object) -> str:
    """64 hexadecimal digits that change with the fold's code, the code it calls in its own top-level packages, the
    constants it uses, and `facts`. Comments, docstrings and layout do not count."""
    ours = {"events", fold.__module__.split(".")[0]}
    parts = sorted(set(_parts(fold, ours, set())))
    return hashlib.sha256("\n".join([repr(facts), *parts]).encode()).hexdigest()


def _parts(thing: Any, ours: set[str], seen: set[int]) -> Iterator[str]:
    thing = inspect.unwrap(thing)  # behind a cache
    if not isinstance(thing, str | int):
        if id(thing) in seen:
            return
        seen.add(id(thing))
    if isinstance(thing, types.FunctionType | type):
        if thing.__module__.split(".")[0] not in ours:
            return
        yield f"{thing.__module__}.{thing.__qualname__} {_code(thing)}"
        for function in [thing] if isinstance(thing, types.FunctionType) else _methods(thing):
            for name in _names(function.__code__):
                if name in function.__globals__:
                    yield from _parts(function.__globals__[name], ours, seen)
    elif isinstance(thing, tuple | list | set | frozenset):
        for item in thing:
            yield from _parts(item, ours, seen)
    elif isinstance(thing, dict):
        for item in (*thing.keys(), *thing.values()):
            yield from _parts(item, ours, seen)
    elif isinstance(thing, str | int):
        yield repr(thing)


def _methods(cls: type) -> list[types.FunctionType]:
    """Its methods and what stands behind its properties."""
    inner = (getattr(v, "fget", None) or getattr(v, "func", None) or inspect.unwrap(v) for v in vars(cls).values())
    return [function for function in inner if isinstance(function, types.FunctionType)]


def _names(code: types.CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _names(constant)


@functools.cache
def _code(thing: Any) -> str:
    """The source without comments, docstrings and layout."""
    try:
        where = thing.__code__.co_firstlineno if isinstance(thing, types.FunctionType) else thing.__qualname__
        known = _definitions(inspect.getsourcefile(thing) or "").get((thing.__name__, where))
        return ast.unparse(known or ast.parse(textwrap.dedent(inspect.getsource(thing))))
    except (OSError, TypeError, SyntaxError):  # made at run time, or a lambda inside an expression
        return repr(getattr(getattr(thing, "__code__", None), "co_code", b""))


@functools.cache
def _definitions(file: str) -> dict[tuple[str, int | str], ast.AST]:
    """What a file defines, without docstrings: functions by name and first line, classes by name and qualified name.
    The whole file is read once: a start looks at some 200 definitions, and `inspect` reads it for each of them."""
    found: dict[tuple[str, int | str], ast.AST] = {}

    def look(node: ast.AST, inside: str) -> None:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            found[node.name, min(part.lineno for part in (node, *node.decorator_list))] = node
            inside = f"{inside}{node.name}.<locals>."
        elif isinstance(node, ast.ClassDef):
            found.setdefault((node.name, inside + node.name), node)
            inside = f"{inside}{node.name}."
        for child in ast.iter_child_nodes(node):
            look(child, inside)
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and ast.get_docstring(node) is not None:
            node.body = node.body[1:] or [ast.Pass()]

    look(ast.parse("".join(linecache.getlines(file))), "")
    return found
