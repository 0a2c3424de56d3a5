"""What the sources say, read without running them: names, refusals, events of the log. Knows no document."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from tests.harness.client import ROOT

ROOMS = ("commands", "schema", "resolvers", "db", "delivery")
LOGGING = re.compile(r"\b_?log\.(?:debug|info|warning|error|exception)\(\s*\"(\w+)\"")

# Where a start is refused, and by which calls. A sentence about the command line is none of those.
REFUSING = frozenset(
    {
        "refuse", "refusal", "SchemaError", "NotYet", "LockError", "AlreadyServed", "BusUnavailable", "BrokerAway",
        "sys.exit",
    }
)  # fmt: skip
STARTING = {
    "commands/server.py": REFUSING,
    "commands/common.py": REFUSING,
    "db/lock.py": REFUSING,
    "db/migrate.py": REFUSING,
    "delivery/bus.py": REFUSING,
    "delivery/redis.py": frozenset({"ValueError"}),
    "delivery/postgres.py": frozenset({"ValueError"}),
    "dev.py": REFUSING,
}
USAGE = frozenset({"… takes no arguments"})


def text_of(file: Path) -> str:
    return file.read_text(encoding="utf-8")


@cache
def defined(file: Path) -> frozenset[str]:
    """Every class, function and constant of a Python file; a method as `Class.method` and as `method`."""
    return frozenset(name for each in ast.walk(ast.parse(text_of(file))) for name in _defined_by(each))


def _defined_by(node: ast.AST) -> Iterator[str]:
    match node:
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
            yield name
        case ast.ClassDef(name=name, body=body):
            yield name
            yield from (
                f"{name}.{each.name}" for each in body if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)
            )
        case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
            yield name
        case _:
            return


def logged() -> set[str]:
    """The event of every log line."""
    files = [ROOT / "app.py", ROOT / "logs.py", *(file for room in ROOMS for file in (ROOT / room).rglob("*.py"))]
    return {event for file in files for event in LOGGING.findall(text_of(file))}


def refusals() -> set[str]:
    """Every sentence with which a start is refused, with `…` for what is put in."""
    made = {each.removeprefix("dev.py: ") for path in STARTING for each in _refusals_of(path)} | set(_of_settings())
    return {each for each in made if each.strip("…")} - USAGE


def _refusals_of(path: str) -> Iterator[str]:
    tree = ast.parse(text_of(ROOT / path))
    constants = _constants(tree)
    for name, call in _calls(tree):
        if name in STARTING[path] and call.args:
            yield _template(call.args[0], constants)
    for each in ast.walk(tree):
        if isinstance(each, ast.FunctionDef) and each.name == "_why_not":
            returned = (line.value for line in ast.walk(each) if isinstance(line, ast.Return))
            yield from (_template(value, constants) for value in returned if value)


def _of_settings() -> Iterator[str]:
    """What the validators say, after the name of their setting."""
    for each in ast.walk(ast.parse(text_of(ROOT / "settings.py"))):
        if isinstance(each, ast.FunctionDef):
            names = [_template(call.args[0], {}) for name, call in _calls(each) if name == "field_validator"]
            said = [_template(call.args[0], {}) for name, call in _calls(each) if name == "ValueError"]
            yield from (f"{names[0].upper()} {sentence}." for sentence in said)


def _constants(tree: ast.Module) -> dict[str, str]:
    found: dict[str, str] = {}
    for each in tree.body:
        match each:
            case ast.Assign(targets=[ast.Name(id=name)], value=ast.Constant(value=str(words))):
                found[name] = words
            case _:
                pass
    return found


def _calls(node: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    for each in ast.walk(node):
        if isinstance(each, ast.Call):
            yield ast.unparse(each.func), each


def _template(node: ast.expr, constants: dict[str, str]) -> str:
    match node:
        case ast.Constant(value=str(words)):
            return words
        case ast.Name(id=name):
            return constants.get(name, "…")
        case ast.JoinedStr(values=parts):
            return "".join(_template(part, constants) for part in parts)
        case ast.FormattedValue(value=value):
            return _template(value, constants)
        case _:
            return "…"
