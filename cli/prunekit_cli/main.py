"""The `prunekit` command: one line per command and one funnel for errors.

Commands read options, call the library and show its report; heavy imports happen inside them, so that
`prunekit --help` answers at once.
"""

import io
import os
import shlex
import sys
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from prunekit.errors import UntrustedCodeError
from prunekit_cli import completion
from prunekit_cli.commands import (
    bundle,
    data,
    demo,
    deploy,
    doctor,
    evaluate,
    export,
    importing,
    inspect,
    predict,
    profile,
    prune,
    recipe,
    runs,
    status,
    train,
)
from prunekit_cli.panels import in_panels
from prunekit_cli.showing import output
from prunekit_runtime.errors import PrunekitError
from prunekit_runtime.failures import exit_code_of, sentence_of
from prunekit_runtime.stopping import stop_code, stop_on_signals, stop_sentence
from prunekit_runtime.text import printable

_GIVEN = "prunekit.given"
_EPILOG = (
    "Exit codes: 0 done; 1 something failed (damaged data, no memory, a full disk, a proof); 2 the command has to be "
    "changed (a value, a name, a path, options that do not go together, a package to install); 130, 143, 129 ended by "
    "Ctrl-C, SIGTERM, SIGHUP; how to go on then: prunekit status"
)


class Commands(TyperGroup):
    """The group of all commands; the one place that turns an error into a sentence and an exit code."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the options of all commands; flags without "<bool>", which reads as if a value followed."""
        params: list[Any] = super().get_params(ctx)
        for param in params:
            if getattr(param, "is_flag", False):
                param.metavar = ""
        return params

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Keep the command as it was given, for an error that says how to repeat it."""
        ctx.meta[_GIVEN] = tuple(args)
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """Run the command; PRUNEKIT_DEBUG=1 keeps the tracebacks."""
        try:
            return self._told(ctx)
        except KeyboardInterrupt as stop:  # in the telling of an error too: a terminal that closes is one, then SIGHUP
            with suppress(OSError):
                output.fail(stop_sentence(stop))
            raise typer.Exit(stop_code(stop)) from None

    def _told(self, ctx: Any) -> Any:
        try:
            answer = super().invoke(ctx)
            output.flush()
            return answer
        except Exception as error:
            if (stop := _stop_behind(error)) is not None:
                raise stop from None
            code = _exit_code(error, ctx)
            if code is None:
                raise
            raise typer.Exit(code) from None


def _stop_behind(error: Exception) -> KeyboardInterrupt | None:
    """Return the interruption that an error came up in clearing up after: a terminal that is gone takes no bar down."""
    behind: BaseException | None = error if isinstance(error, OSError) else None
    while behind is not None and not isinstance(behind, KeyboardInterrupt):
        behind = behind.__context__
    return behind


def _exit_code(error: Exception, ctx: Any) -> int | None:
    """Say what went wrong and return the exit code; None for what is to be raised on, such as a bug of ours."""
    if isinstance(error, BrokenPipeError) and output.reader_is_gone():
        output.close(1, 2)
        return 141  # 128 + SIGPIPE, what shells expect: `prunekit ... | head` is no failure to talk about
    message = _sentence(error, ctx)
    if message is None and isinstance(getattr(error, "message", None), str):
        # An error of usage, which typer shows: it repeats words of the command line, and so names of files.
        error.message = printable(_reworded(error))  # pyright: ignore[reportAttributeAccessIssue]  just asked for
    if message is None or os.environ.get("PRUNEKIT_DEBUG"):
        return None
    with suppress(OSError):  # nobody can be told
        output.fail(message)
    return exit_code_of(error)


def _reworded(error: Any) -> str:
    """Return what an error of usage says; typer lets pydantic judge values, whose words are not for users."""
    rows = getattr(error.__cause__, "errors", None)
    if rows is None:
        return error.message
    from prunekit.validation import refusal

    parameter = error.param
    bounds = SimpleNamespace(ge=parameter.min, le=parameter.max)
    return f"it {refusal(rows()[0], parameter.type_descriptor.annotation, [bounds])}."


def _sentence(error: Exception, ctx: Any) -> str | None:
    """Return what a user reads; of untrusted code with the command that goes on in spite of it."""
    if not isinstance(error, UntrustedCodeError):
        return str(error) if isinstance(error, PrunekitError) else sentence_of(error)
    command = shlex.join(["prunekit", *ctx.meta[_GIVEN], "--trust-code"])
    return f"{error.what}. If you trust it: {command}"


def _version(asked: bool) -> None:
    if asked:
        from prunekit_cli.versions import lines

        for line in lines():
            output.result(line)
        raise typer.Exit


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=_EPILOG,
)


@app.callback()
def prunekit(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_version, is_eager=True, help="Print the versions of prunekit and its packages."
        ),
    ] = False,
) -> None:
    """Take a segmentation network from training to a measured engine: train, prune, export, profile."""


for _name, _module in {
    "train": train,
    "import": importing,
    "prune": prune,
    "export": export,
    "bundle": bundle,
    "deploy": deploy,
    "inspect": inspect,
    "profile": profile,
    "eval": evaluate,
    "predict": predict,
    "runs": runs,
    "status": status,
    "doctor": doctor,
    "recipe": recipe,
    "demo": demo,
}.items():
    _epilog = "\n\n".join(("Examples:", *_module.EXAMPLES))
    completion.offer(_module.command)
    app.command(_name, epilog=_epilog, cls=in_panels(getattr(_module, "PANELS", {})))(_module.command)
app.add_typer(data.app, name="data")


def main() -> None:
    """Run the command line."""
    stop_on_signals()
    with Path(os.devnull).open("w") as nowhere:
        # Python has no stream where the shell closed it (`>&-`): what is written there is not wanted.
        sys.stdout, sys.stderr = sys.stdout or nowhere, sys.stderr or nowhere
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")  # a name that the terminal's encoding lacks is no failure
        app()
