"""A model on the device: measure and check it, or label pictures with it (bench, golden, predict)."""

import argparse
import contextlib
import sys
from collections.abc import Sequence

from prunekit_runtime.commands import COMMANDS
from prunekit_runtime.errors import PrunekitError
from prunekit_runtime.failures import exit_code_of, sentence_of
from prunekit_runtime.stopping import stop_code, stop_on_signals, stop_sentence
from prunekit_runtime.text import printable


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        the exit code: 0 is success, 1 a failure, also of a golden check or a picture, 2 wrong use; 130, 143, 129 follow
        Ctrl-C, SIGTERM and SIGHUP.
    """
    options = _parser().parse_args(arguments)
    try:
        return int(options.command(options))
    except KeyboardInterrupt as stop:
        with contextlib.suppress(OSError):  # the terminal may be gone
            sys.stderr.write(f"{stop_sentence(stop)}\n")
        return stop_code(stop)
    except Exception as error:
        message = str(error) if isinstance(error, PrunekitError) else sentence_of(error)
        if message is None:
            raise
        sys.stderr.write(f"{printable(message)}\n")
        return exit_code_of(error)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m prunekit_runtime", description=__doc__)
    commands = parser.add_subparsers(required=True)
    for name, (help_text, add_options) in COMMANDS.items():
        add_options(commands.add_parser(name, help=help_text))
    return parser


if __name__ == "__main__":
    stop_on_signals()
    sys.exit(main())
