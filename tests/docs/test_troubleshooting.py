"""docs/troubleshooting.md quotes what fusecrypt says, with the status that it ends with."""

from __future__ import annotations

import ast
import importlib
import os
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import fusecrypt
from fusecrypt import errors
from tests.docs.reader import DOCS

PAGE = (DOCS / "troubleshooting.md").read_text()
ROOT = Path(fusecrypt.__file__).parent
SOURCES = sorted(ROOT.rglob("*.py"))
ANY = "…"


def tables() -> Iterator[list[list[str]]]:
    """The rows of each table of the page, its head first."""
    for table in re.findall(r"(?:^\|.*\n)+", PAGE, re.MULTILINE):
        rows = [[cell.strip() for cell in row.split("|")[1:-1]] for row in table.splitlines()]
        yield [rows[0], *rows[2:]]


QUOTED = [
    (row[0].strip("`"), row[1])
    for head, *rows in tables()
    if head[:2] == ["message", "status"]
    for row in rows
]
KERNELS = [
    row[0].strip("`")
    for head, *rows in tables()
    if head[0] == "message" and head[1] != "status"
    for row in rows
]


@cache
def statuses_of_classes() -> dict[str, int]:
    """Every error of ours by its name."""
    for path in SOURCES:
        if re.search(r"^class \w+Error\(", path.read_text(), re.MULTILINE):
            importlib.import_module(".".join(path.relative_to(ROOT.parent).with_suffix("").parts))
    found, todo = {}, [errors.FusecryptError]
    while todo:
        each = todo.pop()
        found[each.__name__] = each.exit_status
        todo += each.__subclasses__()
    return found


@cache
def said() -> list[tuple[str, str]]:
    """All texts that functions hand on, … for what is put in, with the class of the error (or nothing)."""
    found = []
    for path in SOURCES:
        module = ast.parse(path.read_text())
        found += [pair for call in calls(module) for pair in said_by(call, {})]
        for function in ast.walk(module):
            if isinstance(function, ast.FunctionDef) and (variables := assigned(function)):
                found += [pair for call in calls(function) for pair in said_by(call, variables)]
    return found


def calls(function: ast.AST) -> Iterator[ast.Call]:
    return (node for node in ast.walk(function) if isinstance(node, ast.Call))


def assigned(function: ast.AST) -> dict[str, list[str]]:
    """The texts in a function's variables."""
    found: dict[str, list[str]] = {}
    for node in ast.walk(function):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            found.setdefault(node.targets[0].id, []).extend(texts(node.value, {}))
    return found


def said_by(call: ast.Call, variables: dict[str, list[str]]) -> Iterator[tuple[str, str]]:
    names = [each.id for each in (call.func, *call.args) if isinstance(each, ast.Name)]
    kind = next((name for name in names if name in statuses_of_classes()), "")
    return ((text, kind) for each in call.args for text in texts(each, variables))


def texts(node: ast.expr, variables: dict[str, list[str]]) -> Iterator[str]:
    """The literal texts in an expression; adjoining ones are one."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif isinstance(node, ast.JoinedStr):
        yield "".join(str(part.value) if isinstance(part, ast.Constant) else ANY for part in node.values)
    elif isinstance(node, ast.BinOp):
        yield from (*texts(node.left, variables), *texts(node.right, variables))
    elif isinstance(node, ast.IfExp):
        yield from (*texts(node.body, variables), *texts(node.orelse, variables))
    elif isinstance(node, ast.Name):
        yield from variables.get(node.id, ())


def test_there_are_messages() -> None:
    assert len(QUOTED) > 60
    assert len(KERNELS) > 5


@pytest.mark.parametrize(("message", "status"), QUOTED, ids=[message for message, _ in QUOTED])
def test_message_is_said_with_this_status(message: str, status: str) -> None:
    """Some are said as a remark too, which ends nothing."""
    kinds = {kind for text, kind in said() if message in text}
    assert kinds, "nothing in the sources says this"
    assert ({str(statuses_of_classes()[kind]) for kind in kinds if kind} or {""}) == {status}


@pytest.mark.parametrize("message", KERNELS)
def test_message_is_the_kernels(message: str) -> None:
    assert message in {os.strerror(number) for number in range(1, 133)}


def test_every_status_is_explained() -> None:
    ((_, *rows),) = [table for table in tables() if table[0][:2] == ["status", "meaning"]]
    explained = {row[0] for row in rows}
    assert explained == set(re.findall(r"^(\d)  ", errors.__doc__ or "", re.MULTILINE))
    assert {str(status) for status in statuses_of_classes().values()} <= explained


@pytest.mark.parametrize("layer", ["cli", "mount", "sources"])
def test_every_error_says_what_to_do_next(layer: str) -> None:
    """In the layers that speak to somebody each has a hint."""
    errors_made = [
        (path.name, call)
        for path in SOURCES
        if path.is_relative_to(ROOT / layer)
        for call in calls(ast.parse(path.read_text()))
        if isinstance(call.func, ast.Name) and call.func.id in statuses_of_classes()
    ]
    assert errors_made
    assert [f"{name}: {ast.unparse(call)}" for name, call in errors_made if len(call.args) < 2] == []
