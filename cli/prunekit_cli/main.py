"""The `prunekit` command: one line per command and one funnel for errors.

Commands read options, call the library and show its report; heavy imports happen inside them, so that
`prunekit --help` answers at once.
"""

import os
import shlex
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from prunekit.errors import UntrustedCodeError
from prunekit_cli import demo, evaluate, export, inspect, output, profile, prune, recipe, train
from prunekit_runtime.errors import PrunekitError

_GIVEN = "prunekit.given"
# What a user's path can cause; any other OSError is a bug of ours and keeps its traceback.
_FILE_ERRORS = (PermissionError, NotADirectoryError, FileExistsError, FileNotFoundError, IsADirectoryError)


class Commands(TyperGroup):
    """The group of all commands; the one place that turns an error into a sentence and an exit code."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Keep the command as it was given, for an error that says how to repeat it."""
        ctx.meta[_GIVEN] = tuple(args)
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """Run the command; PRUNEKIT_DEBUG=1 keeps the tracebacks."""
        try:
            return super().invoke(ctx)
        except (PrunekitError, *_FILE_ERRORS) as error:
            if os.environ.get("PRUNEKIT_DEBUG"):
                raise
            output.fail(_trusting(error, ctx) if isinstance(error, UntrustedCodeError) else str(error))
            raise typer.Exit(1) from None
        except KeyboardInterrupt:
            output.fail("Interrupted.")
            raise typer.Exit(130) from None  # 128 + SIGINT, what shells expect


def _trusting(error: UntrustedCodeError, ctx: Any) -> str:
    """Return the error with the command that goes on in spite of it."""
    command = shlex.join(["prunekit", *ctx.meta[_GIVEN], "--trust-code"])
    return f"{error.what}. If you trust it: {command}"


def _version(asked: bool) -> None:
    if asked:
        from prunekit_cli.versions import lines

        for line in lines():
            output.result(line)
        raise typer.Exit


app = typer.Typer(cls=Commands, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


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
    "prune": prune,
    "export": export,
    "inspect": inspect,
    "profile": profile,
    "eval": evaluate,
    "recipe": recipe,
    "demo": demo,
}.items():
    _epilog = "\n\n".join(("Examples:", *_module.EXAMPLES))
    app.command(_name, epilog=_epilog)(_module.command)


def main() -> None:
    """Run the command line."""
    app()
