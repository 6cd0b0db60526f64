"""`python3 -m prunekit_runtime time-layers`: time models that a host sends, for `prunekit prune --on`."""

import argparse
import os
import select
import signal
import sys
import threading

from prunekit_runtime.commands.numbers import count
from prunekit_runtime.errors import MeasureUsageError
from prunekit_runtime.running.ort import MAX_THREADS
from prunekit_runtime.timing.service import OrtStopwatch, ServedStopwatch, serve


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments and options to a parser."""
    parser.set_defaults(command=command)
    parser.add_argument(
        "--backend", choices=("tensorrt", "ort"), default="tensorrt", help="what runs the models (tensorrt)"
    )
    parser.add_argument("--threads", type=count, default=1, help="CPU threads of ONNX Runtime; 0 is its own choice (1)")


def command(options: argparse.Namespace) -> int:
    """Answer requests from standard input on standard output until the input ends."""
    if options.threads > MAX_THREADS:
        raise MeasureUsageError(f"--threads is at most {MAX_THREADS}, got {options.threads}.")
    stopwatch = _stopwatch(options.backend, options.threads)
    # Whatever a library prints must not fall between the answers: its standard output becomes the error output.
    with os.fdopen(os.dup(sys.stdout.fileno()), "wb") as answers:
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
        done = threading.Event()
        threading.Thread(target=_end_unread, args=(answers.fileno(), done), daemon=True).start()
        serve(stopwatch, sys.stdin.buffer, answers)
        done.set()
    return 0


def _end_unread(answers: int, done: threading.Event) -> None:
    """End this process when nobody is left to read its answers: a host that is gone must not leave a device busy."""
    watch = select.poll()
    watch.register(answers, 0)  # an error or a hang-up is told whatever is asked for
    watch.poll()
    if not done.is_set():
        os.kill(os.getpid(), signal.SIGTERM)


def _stopwatch(backend: str, threads: int) -> ServedStopwatch:
    if backend == "ort":
        stopwatch = OrtStopwatch(threads)
        _ = stopwatch.runtime  # whether ONNX Runtime is here is said before the first request
        return stopwatch
    from prunekit_runtime.timing.engines import EngineStopwatch

    return EngineStopwatch()
