"""The house: who may import whom, the same rooms in every service, one home for every event. No service is named."""

import ast
import importlib
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

import pytest

from events import case, operations
from events.event import CaseEvent, Event
from events.wire import VOCABULARY
from services.names import NAMES, SERVICE_OF
from services.runtime import Service

ROOT = Path(__file__).parents[1]
LIBS, SERVICES = ROOT / "libs", ROOT / "services"
HOUSES = sorted(path.parent.name for path in SERVICES.glob("*/service.py"))
ROOMS = ("service", "decide", "react", "views", "api")

WEB = {"fastapi", "starlette", "uvicorn", "httptools"}
CLOCKS = {"now", "utcnow", "today", "time", "time_ns", "monotonic", "perf_counter", "uuid1", "uuid4"}
RESTLESS = {"random", "secrets", "asyncio", "time", "os", "socket", "subprocess", "threading"}
PURE = {"events.case", "events.operations", "events.personal", "events.event", "events.errors"}
SHAPES = {
    "events.store": {"Fold", "New", "Stream"},
    "events.store.shapes": {"AHEAD", "OLDEST", "Fold", "New", "Stream"},
}
"""What a decision is written in, though its module does more."""

LONG_FUNCTION, LONG_FILE = 40, 400
LONGER = {
    "libs/events/case.py": "every event about a case is read in one place",
    "libs/events/operations.py": "every event about anything else is read in one place",
    "libs/events/case.py:evolve": "one arm per event, of which a reader looks at one",
}


# ------------------------------------------------------------------------------------------------------------- reading


def modules(*folders: Path) -> dict[str, Path]:
    """module name → file, for everything below the folders."""
    found: dict[str, Path] = {}
    for folder in folders:
        base = LIBS if folder.is_relative_to(LIBS) else ROOT
        for path in sorted(folder.rglob("*.py")):
            parts = path.relative_to(base).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules(LIBS / "events", SERVICES)


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def imports(module: str, for_types: bool = True) -> frozenset[tuple[str, str]]:
    """(module, name) of everything imported, also inside functions; the name is empty for `import x`. A name that is
    itself a module counts as that module. Without `for_types`, what only the type checker sees is left out."""
    found: set[tuple[str, str]] = set()
    source_tree = tree(MODULES[module])
    checks = [n for n in ast.walk(source_tree) if isinstance(n, ast.If) and ast.unparse(n.test) == "TYPE_CHECKING"]
    unseen = set[ast.AST]() if for_types else {node for check in checks for node in ast.walk(check)}
    for node in ast.walk(source_tree):
        if node in unseen:
            continue
        match node:
            case ast.Import(names=names):
                found |= {(alias.name, "") for alias in names}
            case ast.ImportFrom(module=str(source), names=names):
                for alias in names:
                    whole = f"{source}.{alias.name}"
                    found.add((whole, "") if whole in MODULES else (source, alias.name))
    return frozenset(found)


def inside(module: str, *rooms: str) -> bool:
    return any(module == room or module.startswith(room + ".") for room in rooms)


def ours(module: str) -> bool:
    return inside(module, "events", "services")


def house_of(module: str) -> str | None:
    return next((name for name in HOUSES if inside(module, f"services.{name}")), None)


def pure_rooms(house: str) -> Iterator[str]:
    """`decide`, and every room of the same service that it leads to."""
    start = f"services.{house}.decide"
    waiting, seen = [name for name in MODULES if inside(name, start)], set[str]()
    while waiting:
        room = waiting.pop()
        if room in seen:
            continue
        seen.add(room)
        yield room
        waiting += [other for other, _ in imports(room) if house_of(other) == house and other in MODULES]


def allowed(module: str, name: str, rooms: Iterable[str]) -> bool:
    return inside(module, *rooms) or name in SHAPES.get(module, ())


# -------------------------------------------------------------------------------------------------- who may import whom


def test_there_are_services() -> None:
    assert len(HOUSES) >= 5


def test_the_vocabulary_imports_nothing_but_itself_and_pydantic() -> None:
    for module in PURE:
        for other, _ in imports(module):
            top = other.partition(".")[0]
            assert inside(other, *PURE) or top in {"pydantic", "pydantic_core"} | (
                sys.stdlib_module_names - RESTLESS
            ), f"{module} imports {other}"


def test_the_machinery_knows_no_service_and_no_web_framework() -> None:
    for module in MODULES:
        if inside(module, "events"):
            for other, _ in imports(module):
                assert not inside(other, "services", *WEB), f"{module} imports {other}"


@pytest.mark.parametrize("house", HOUSES)
def test_decisions_are_made_of_the_vocabulary_and_pure_rooms(house: str) -> None:
    pure = PURE | {"pydantic", f"services.{house}"}
    for module in pure_rooms(house):
        for other, name in imports(module):
            standard = other.partition(".")[0] in sys.stdlib_module_names - RESTLESS
            assert standard or allowed(other, name, pure), f"{module} imports {other} {name}".rstrip()


@pytest.mark.parametrize("house", HOUSES)
def test_decisions_ask_no_clock_roll_no_dice_and_wait_for_nobody(house: str) -> None:
    for module in pure_rooms(house):
        for node in ast.walk(tree(MODULES[module])):
            assert not isinstance(node, ast.Await | ast.AsyncFunctionDef), f"{module}:{node.lineno} waits"
            if isinstance(node, ast.Call):
                called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
                assert called not in CLOCKS, f"{module}:{node.lineno} calls {called}()"


@pytest.mark.parametrize("module", [module for module in MODULES if inside(module, "services.web")])
def test_the_doors_common_parts_know_no_service(module: str) -> None:
    """They name the host's type, and only for the type checker."""
    for other, _ in imports(module, for_types=False):
        assert not inside(other, "services") or inside(other, "services.web"), f"{module} imports {other}"
    for other, _ in imports(module):
        assert not inside(other, "services") or inside(other, "services.web", "services.runtime"), f"{module} {other}"


@pytest.mark.parametrize("house", HOUSES)
def test_a_service_imports_the_machinery_and_itself_only(house: str) -> None:
    for module in MODULES:
        if house_of(module) == house:
            for other, _ in imports(module):
                known = inside(other, "events", "services.runtime", "services.web", f"services.{house}")
                assert known or not ours(other), f"{module} imports {other}"


def test_the_wiring_knows_no_service() -> None:
    for module in MODULES:
        if inside(module, "services.runtime"):
            for other, _ in imports(module):
                known = inside(other, "events", "services.web", "services.limits", "services.runtime")
                assert known or not ours(other), f"{module} imports {other}"


def test_only_tests_use_the_testing_room() -> None:
    users = [module for module in MODULES if any(other == "events.testing" for other, _ in imports(module))]

    assert users == []


# -------------------------------------------------------------------------------------------------------------- the map


def service(house: str) -> Service:
    found = importlib.import_module(f"services.{house}.service").SERVICE
    assert isinstance(found, Service)
    return found


@pytest.mark.parametrize("house", HOUSES)
def test_every_service_has_the_same_rooms(house: str) -> None:
    """Only one that reacts to nothing has no room for it."""
    reacts = service(house).reactors or service(house).timers
    rooms = [room for room in ROOMS if reacts or room != "react"]

    assert [room for room in rooms if f"services.{house}.{room}" not in MODULES] == []


@pytest.mark.parametrize("module", MODULES)
def test_every_file_says_in_one_line_what_it_is_for(module: str) -> None:
    said = ast.get_docstring(tree(MODULES[module]))

    assert said, f"{module} does not say what it is for"
    assert len(said.splitlines()[0]) <= 120


@pytest.mark.parametrize("house", HOUSES)
def test_the_map_has_every_service_with_its_sentence(house: str) -> None:
    rows = re.findall(
        r"^\| (\w+) +\| (.+?) +\|$", ast.get_docstring(tree(SERVICES / "__init__.py")) or "", re.MULTILINE
    )
    readme = (ROOT / "README.md").read_text(encoding="utf-8")

    assert service(house).name == house
    assert dict(rows)[house] == service(house).sentence
    assert len(rows) == len(HOUSES) + 1, "the map has a row for each service and its head"
    assert re.search(rf"\b{house}\b", readme)


def test_the_one_list_has_every_service_and_its_paths() -> None:
    assert sorted(NAMES) == HOUSES
    assert {path: house for house in HOUSES for path in service(house).paths} == SERVICE_OF


def test_first_path_segments_belong_to_one_service() -> None:
    owners = Counter(path for house in HOUSES for path in service(house).paths)

    assert [path for path, services in owners.items() if services > 1] == []


@pytest.mark.parametrize("house", HOUSES)
def test_a_services_doors_are_under_its_own_segments(house: str) -> None:
    own = set(service(house).paths)
    for module in (name for name in MODULES if inside(name, f"services.{house}.api")):
        for node in ast.walk(tree(MODULES[module])):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                segment = re.match(r"^/v1/([a-z-]+)", node.value)
                assert segment is None or segment[1] in own, f"{module}:{node.lineno} opens {node.value}"


# ----------------------------------------------------------------------------------------------------------- the events


def subclasses(kind: type[Event]) -> Iterator[type[Event]]:
    for sub in kind.__subclasses__():
        yield sub
        yield from subclasses(sub)


def test_every_event_is_in_exactly_one_tuple() -> None:
    listed = Counter((*case.CASE_EVENTS, *operations.OPERATIONS_EVENTS))
    defined = {e for e in subclasses(Event) if ours(e.__module__) and e.TYPE}

    assert set(listed) == defined
    assert set(listed.values()) == {1}
    assert set(case.CASE_EVENTS) == set(subclasses(CaseEvent)) & defined
    assert len(VOCABULARY.classes) == len(defined), "two events share a wire type"


def test_events_are_defined_in_the_vocabulary_and_nowhere_else() -> None:
    kinds = {"Event", "CaseEvent", "OperationsEvent"}
    for module, path in MODULES.items():
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.ClassDef) and {ast.unparse(base).rpartition(".")[2] for base in node.bases} & kinds:
                assert module in PURE, f"{module}:{node.lineno} defines {node.name}"


@pytest.mark.parametrize("event", VOCABULARY.classes.values(), ids=lambda event: event.TYPE)
def test_an_event_says_what_happened_under_a_type_of_its_own_writer(event: type[Event]) -> None:
    assert event.__doc__
    assert event.WRITER in HOUSES
    assert re.fullmatch(r"casewalk\.[a-z_]+\.[a-z_]+\.v[1-9]", event.TYPE)
    assert event.TYPE.startswith("casewalk.case.") == issubclass(event, CaseEvent)


# -------------------------------------------------------------------------------------------------------------- length


def own_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of the function without the functions inside it: those are counted on their own."""

    def first(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
        return min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])

    def nested(node: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
                yield child
            else:
                yield from nested(child)

    def span(node: ast.FunctionDef | ast.AsyncFunctionDef, start: int) -> int:
        return (node.end_lineno or start) - start + 1

    return span(function, function.lineno) - sum(span(inner, first(inner)) for inner in nested(function))


@pytest.mark.parametrize("module", MODULES)
def test_files_and_functions_stay_short_enough_to_read(module: str) -> None:
    path = MODULES[module]
    name = str(path.relative_to(ROOT))
    long = {name: len(path.read_text(encoding="utf-8").splitlines())}
    long = {name: lines for name, lines in long.items() if lines > LONG_FILE}
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and own_lines(node) > LONG_FUNCTION:
            long[f"{name}:{node.name}"] = own_lines(node)

    assert {what: lines for what, lines in long.items() if what not in LONGER} == {}


def test_nothing_is_excused_that_has_become_short() -> None:
    for excused in LONGER:
        path, _, function = excused.partition(":")
        source = tree(ROOT / path)
        functions = {n.name: own_lines(n) for n in ast.walk(source) if isinstance(n, ast.FunctionDef)}
        if function:
            assert functions[function] > LONG_FUNCTION, f"{excused} needs no excuse"
        else:
            assert len((ROOT / path).read_text(encoding="utf-8").splitlines()) > LONG_FILE, f"{excused} needs no excuse"
