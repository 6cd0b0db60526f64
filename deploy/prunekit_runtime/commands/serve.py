"""`python3 -m prunekit_runtime serve`: a bundle's model over HTTP, for this machine unless told otherwise."""

import argparse
import os
import sys
from pathlib import Path
from typing import Any, Optional

from prunekit_runtime.commands.bundled import Opened, add_model_options, opened
from prunekit_runtime.commands.numbers import count, positive
from prunekit_runtime.errors import ServeUsageError
from prunekit_runtime.preprocessing import MAX_PIXELS
from prunekit_runtime.serving import (
    VARIABLE,
    Access,
    Labelling,
    Limits,
    Server,
    Service,
    checked_token,
    is_loopback,
    new_token,
    read_token,
    run_until_stopped,
)
from prunekit_runtime.streaming import usual_threads
from prunekit_runtime.text import printable, printable_name

_USUAL = Limits()
_MAX_BODY_MIB = 512


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments and options to a parser."""
    parser.set_defaults(command=command)
    add_model_options(parser)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: this machine alone)")
    parser.add_argument("--port", type=count, default=8000, help="0 takes one that is free (default: 8000)")
    parser.add_argument("--token", choices=("auto",), help="make a token and print it")
    parser.add_argument(
        "--token-file", type=Path, help=f"file that holds the token clients must send (or: environment {VARIABLE})"
    )
    parser.add_argument("--max-body", type=positive, default=_USUAL.body_bytes >> 20, metavar="MIB", help="(32)")
    parser.add_argument("--max-pixels", type=positive, default=_USUAL.pixels, help=f"of a picture ({_USUAL.pixels})")
    parser.add_argument("--connections", type=positive, default=_USUAL.connections, help=f"({_USUAL.connections})")
    parser.add_argument("--waiting", type=positive, default=_USUAL.waiting, help=f"pictures ({_USUAL.waiting})")
    parser.add_argument("--quiet", action="store_true", help="no line for each request")


def command(options: argparse.Namespace) -> int:
    """Serve until a signal comes; 0 when all that was begun is answered."""
    if options.port > 65535:
        raise ServeUsageError(f"--port {options.port} is no port. Give 0 to 65535.")
    limits, token = _limits(options), _token(options)
    if token is None and not is_loopback(options.host):
        raise ServeUsageError(
            f"On {options.host}, others can reach the server, so they must have a token. Make one: --token auto; or "
            f"name it: --token-file FILE, or the environment variable {VARIABLE}."
        )
    with opened(options) as model:
        labels = Labelling(model.model, model.bundle.classes, limits.pixels, usual_threads())
        service = Service(labels, _info(model, limits), Access(token), limits)
        server = Server(service, _no_log if options.quiet else _log)
        if options.token is not None:
            sys.stdout.write(f"Token: {token}\n")
        run_until_stopped(server, options.host, options.port, _Ready(model))
    sys.stderr.write("Ended.\n")
    return 0


class _Ready:
    """Says where the server is, once requests can come."""

    def __init__(self, model: Opened) -> None:
        self._model = model

    def __call__(self, host: str, port: int) -> None:
        shown = f"[{host}]" if ":" in host else host
        model = self._model
        sys.stdout.write(
            printable(f"{model.entry.name} on {model.model.name}\nListening on http://{shown}:{port} - Ctrl-C ends\n")
        )
        sys.stdout.flush()


def _limits(options: argparse.Namespace) -> Limits:
    if options.max_body > _MAX_BODY_MIB or options.max_pixels > MAX_PIXELS:
        raise ServeUsageError(f"--max-body is at most {_MAX_BODY_MIB} MiB, --max-pixels at most {MAX_PIXELS}.")
    body_bytes = options.max_body << 20
    return Limits(
        body_bytes=body_bytes,
        held_bytes=max(_USUAL.held_bytes, body_bytes),
        pixels=options.max_pixels,
        connections=options.connections,
        waiting=options.waiting,
    )


def _token(options: argparse.Namespace) -> Optional[str]:
    if options.token is not None and options.token_file is not None:
        raise ServeUsageError("--token auto and --token-file exclude each other. Leave one of them out.")
    if options.token is not None:
        return new_token()
    if options.token_file is not None:
        return read_token(options.token_file)
    found = os.environ.get(VARIABLE)
    return None if found is None else checked_token(found, f"the environment variable {VARIABLE}")


def _info(model: Opened, limits: Limits) -> dict[str, Any]:
    classes, entry = model.bundle.classes, model.entry
    return {
        "bundle": model.bundle.name,
        "model": entry.name,
        "precision": entry.precision,
        "graph": entry.graph,
        "ran_on": model.model.name,
        "input_shape": list(model.model.input_shape),
        "classes": [
            {"class": place, "name": name, "colour": list(colour)}
            for place, (name, colour) in enumerate(zip(classes.names, classes.palette, strict=True))
        ],
        "limits": {"body_bytes": limits.body_bytes, "pixels": limits.pixels, "connections": limits.connections},
    }


def _log(line: str) -> None:
    sys.stderr.write(f"{printable_name(line)}\n")


def _no_log(_: str) -> None:
    """Say nothing."""
