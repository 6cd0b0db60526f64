"""Every command that prunekit advises runs as it is printed: hints, errors, `Next:` lines and the help's examples.

The strings that name a command are collected from the source code. Each must be printed by one of the scenarios below,
and what was printed there is run, word for word, in the same folder. So a command in a message ends where the line,
the sentence, or a pair of backticks ends.
"""

import ast
import contextlib
import io
import os
import re
import shlex
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from prunekit_cli.main import app
from prunekit_runtime import __main__ as runtime

ROOT = Path(__file__).parents[4]
ROOMS = ("prunekit", "cli/prunekit_cli", "export/prunekit_export", "deploy/prunekit_runtime")
COMMANDS = sorted(get_command(app).commands)
ANY = "\0"  # stands in a template for what is filled in
_NAMED = re.compile(
    rf"(?<![\w/.-])(?:prunekit (?:{'|'.join(COMMANDS)}|{ANY}(?= -))"
    rf"|python3? -m prunekit_runtime (?:bench|golden|predict|{ANY}))(?![\w-])"
)
_END = re.compile(r"`|;|\n|   |\)|│|\.(?=\s|$)|,(?=\s)|\s(?=or (?:prunekit|python))")

NEEDS = {
    "--trt": ("tensorrt", "tensorrt_rtx"),
    "hf:": (),
    "prunekit deploy": (),
    "--on ": (),
}  # no folder of such a network here: models/test_hf.py has one; no device: export/deploying has one
"""What a command needs that may be missing here: any one of these packages."""

FOUND_WRONG = {("a mask that cannot be read", 1)}
"""Scenarios whose advice looks at what is wrong, and the exit code of having found it."""

NOT_PROVOKED = {
    "begun by `prunekit data init`": "a remark in a class list, about its origin",
    "--overwrite --ignore": "a remark in a class list, with a place for a number",
    "but float32 is needed": "an engine that was built for other types, which takes a GPU",
    "Put all into one": "an ONNX file of over 2 GiB on its way into TensorRT",
    f"{ANY} has {ANY} inputs, not one": "an ONNX file that TensorRT parses, which takes a GPU",
}
"""Templates that no test machine can print, by a part of them, with the reason."""


@dataclass(frozen=True)
class Template:
    """A string of the source code that names a command; `ANY` stands where it is filled in."""

    where: str
    text: str

    def is_in(self, output: str) -> bool:
        """Tell whether an output holds the constant parts, one after the other; how it breaks lines does not count."""
        text, place = "".join(output.split()), 0
        for part in self.text.split(ANY):
            constant = "".join(part.split())
            place = text.find(constant, place)
            if place < 0:
                return False
            place += len(constant)
        return True


def templates() -> list[Template]:
    """Return every string constant of the rooms that names a command; docstrings are not printed."""
    found = []
    for path in sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py")):
        tree = ast.parse(path.read_text())
        within = {id(part) for node in ast.walk(tree) for part in _inside(node)}
        for node in ast.walk(tree):
            text = _text(node)
            if text is not None and id(node) not in within and _NAMED.search(text):
                found.append(Template(f"{path.relative_to(ROOT)}:{node.lineno}", text))
    return found


def _inside(node: ast.AST) -> list[ast.AST]:
    """Return what is no string by itself: a docstring, and the pieces of an f-string."""
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return [node.value]
    return list(node.values) if isinstance(node, ast.JoinedStr) else []


def _text(node: ast.AST) -> str | None:
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else None
    if isinstance(node, ast.JoinedStr):
        return "".join(part.value if isinstance(part, ast.Constant) else ANY for part in node.values)
    return None


def advised(output: str) -> list[str]:
    """Return the commands that an output names, each once."""
    found = {}
    for match in _NAMED.finditer(output):
        end = _END.search(output, match.end())
        found[output[match.start() : end.start() if end else len(output)].strip()] = True
    return list(found)


TEMPLATES = templates()


@pytest.fixture(scope="module")
def succeeded() -> set[str]:
    """Return what ran in the folder as it is, and need not run there again."""
    return set()


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda template: template.where)
def test_every_string_that_names_a_command_is_provoked(scenarios, template):
    if any(part in template.text for part in NOT_PROVOKED):
        pytest.skip("not provoked, see NOT_PROVOKED")
    assert any(template.is_in(scenario.output) for scenario in scenarios), (
        f"{template.where}: no scenario here prints {template.text!r}"
    )


def test_what_is_advised_runs_as_it_is_printed(scenario, enter_world, succeeded):
    if scenario.error is not None:
        raise scenario.error
    for command in advised(scenario.output):
        if _lacks(command) or (scenario.unchanged and command in succeeded):
            continue
        with enter_world(scenario.root):
            os.chdir(scenario.folder)
            code, output = run(command)
        assert code == 0 or (scenario.name, code) in FOUND_WRONG, f"{command}\n{output}"
        if scenario.unchanged:
            succeeded.add(command)


def _lacks(command: str) -> bool:
    """Tell whether a package that the command needs is missing here."""
    return any(word in command and not any(map(find_spec, packages)) for word, packages in NEEDS.items())


def run(command: str) -> tuple[int, str]:
    """Run a command as a shell would."""
    line, redirected, target = command.partition(" > ")
    program, *arguments = shlex.split(line)
    if program != "prunekit":
        with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(out):
            return runtime.main(arguments[2:]), out.getvalue()
    result = CliRunner().invoke(app, arguments)
    if redirected:
        Path(target).write_text(result.stdout)
    return result.exit_code, f"{result.output}{result.exception or ''}"
