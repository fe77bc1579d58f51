"""Failpoints around every await of chosen modules, put there when they are imported: none can be forgotten, and the
product reads as if there were none.

Where a coroutine of the same module is awaited there are none: nothing lies between those and the ones inside it.
"""

from __future__ import annotations

import ast
import importlib.machinery
import importlib.util
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from importlib.abc import MetaPathFinder
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from events import failpoint

MODULES = (
    "events.store",
    "events.store.group",
    "events.relay",
    "events.consume",
    "events.timers",
    "services.intake.api.imports",
)

passed: Counter[str] = Counter()
"""Point → how often this process has passed it."""


last_words: list[Callable[[str], None]] = []
"""Told the point before the process dies there."""


def at(name: str, value: Any = None) -> Any:
    """Pass the point, or die there; answers `value`."""
    passed[name] += 1
    if failpoint.dies(name):
        for told in last_words:
            told(name)
    failpoint.at(name)
    return value


class Crossing:
    """An async context manager with a point on either side of its entry and of its exit."""

    def __init__(self, name: str, within: Any) -> None:
        self.name, self.within = name, within

    async def __aenter__(self) -> Any:
        at(f"{self.name} | before entry")
        return at(f"{self.name} | after entry", await self.within.__aenter__())

    async def __aexit__(self, *why: Any) -> Any:
        at(f"{self.name} | before exit")
        return at(f"{self.name} | after exit", await self.within.__aexit__(*why))


async def each(name: str, values: Any) -> Any:
    """An async iterator with a point on either side of every step."""
    at(f"{name} | before")
    async for value in values:
        at(f"{name} | after")
        yield value
        at(f"{name} | before")


class _Instrument(ast.NodeTransformer):
    """Wraps what is awaited; `points` are the names, in the order of the source."""

    def __init__(self, module: str, tree: ast.Module) -> None:
        self.module, self.points = module.split(".", 1)[1], list[str]()
        self._own = {node.name for node in ast.walk(tree) if isinstance(node, ast.AsyncFunctionDef)}
        self._functions: list[str] = []
        self._names: Counter[str] = Counter()

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.AST:
        self._functions.append(node.name)
        self.generic_visit(node)
        self._functions.pop()
        return node

    def visit_Await(self, node: ast.Await) -> ast.AST:
        match node.value:
            case ast.Call(func=ast.Name(id=name) | ast.Attribute(value=ast.Name(id="self"), attr=name)):
                if name in self._own:
                    return self.generic_visit(node)
        name = self._name(node.value)
        self.points += [f"{name} | before", f"{name} | after"]
        node.value = _call("at", f"{name} | before", self.visit(node.value))
        return ast.copy_location(_call("at", f"{name} | after", node), node)

    def visit_AsyncWith(self, node: ast.AsyncWith) -> ast.AST:
        for item in node.items:
            name = self._name(item.context_expr)
            self.points += [f"{name} | {side} {way}" for way in ("entry", "exit") for side in ("before", "after")]
            item.context_expr = _call("Crossing", name, item.context_expr)
        return self.generic_visit(node)

    def visit_AsyncFor(self, node: ast.AsyncFor) -> ast.AST:
        node.iter = self._stepped(node.iter)
        return self.generic_visit(node)

    def visit_comprehension(self, node: ast.comprehension) -> ast.AST:
        if node.is_async:
            node.iter = self._stepped(node.iter)
        return self.generic_visit(node)

    def _stepped(self, values: ast.expr) -> ast.expr:
        name = self._name(values)
        self.points += [f"{name} | before", f"{name} | after"]
        return _call("each", name, values)

    def _name(self, what: ast.expr) -> str:
        """Where it is and what is awaited there: stays the same as long as that does, whatever line it moves to."""
        called = re.sub(r"\(.*\)", "", ast.unparse(what.func if isinstance(what, ast.Call) else what))
        name = f"{self.module}.{'.'.join(self._functions)} {called}"
        self._names[name] += 1
        return name if self._names[name] == 1 else f"{name} ({self._names[name]})"


def _call(function: str, name: str, value: ast.expr) -> ast.Call:
    call = ast.Call(ast.Name(f"__{function}__", ast.Load()), [ast.Constant(name), value], [])
    return ast.fix_missing_locations(ast.copy_location(call, value))


def instrumented(module: str, source: bytes | str) -> tuple[ast.Module, list[str]]:
    """The module's tree with points in it, and their names."""
    tree = ast.parse(source)
    instrument = _Instrument(module, tree)
    return ast.fix_missing_locations(instrument.visit(tree)), instrument.points


def all_points(modules: Sequence[str] = MODULES) -> Iterator[str]:
    """Every point there is, without importing anything."""
    for module in modules:
        spec = importlib.util.find_spec(module)
        assert spec is not None
        assert spec.origin is not None
        yield from instrumented(module, Path(spec.origin).read_bytes())[1]


class _Loader(importlib.machinery.SourceFileLoader):
    def source_to_code(self, data: Any, path: Any, *, _optimize: int = -1) -> CodeType:  # type: ignore[override]
        return compile(instrumented(self.name, data)[0], path, "exec", dont_inherit=True, optimize=_optimize)

    def get_code(self, fullname: str) -> CodeType:
        """Never from the cache, and never into it."""
        path = self.get_filename(fullname)
        return self.source_to_code(self.get_data(path), path)

    def exec_module(self, module: ModuleType) -> None:
        vars(module).update(__at__=at, __Crossing__=Crossing, __each__=each)
        super().exec_module(module)


class _Finder(MetaPathFinder):
    def find_spec(self, fullname: str, path: Any, target: ModuleType | None = None) -> Any:
        if fullname not in MODULES:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path)
        assert spec is not None
        assert spec.origin is not None
        return importlib.util.spec_from_file_location(
            fullname,
            spec.origin,
            loader=_Loader(fullname, spec.origin),
            submodule_search_locations=spec.submodule_search_locations,
        )


def install() -> None:
    """From here on the modules are imported with points in them."""
    assert not set(MODULES) & set(sys.modules), "too late: they are imported already"
    sys.meta_path.insert(0, _Finder())
