"""One device: copy, build, check, bench, and its reports brought back."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, cast

from prunekit.run import write_atomically
from prunekit_export.deploying.outcome import DeviceOutcome, Report, rows_of, sentences_of
from prunekit_export.errors import DeviceError, ExportUsageError
from prunekit_export.remote import Target, copy_folder
from prunekit_runtime.errors import PrunekitError
from prunekit_runtime.jsonfile import parse_json
from prunekit_runtime.spelling import spelled
from prunekit_runtime.text import printable_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from prunekit_export.remote import Session

    OnStep = Callable[[str, str], None]

Backend = Literal["tensorrt", "ort"]
STEPS = ("connect", "copy", "build", "check", "bench")
_REPORTING = ("build", "check", "bench")
_ODD = (" ", "\t", "\n", "\r", "\0", "'", '"', "\\", "`", "$", "*", "?")


@dataclass(frozen=True, kw_only=True)
class DeployConfig:
    """What is done on each device."""

    backend: Backend = "tensorrt"
    """What runs the models there: TensorRT, or ONNX Runtime on the CPU."""
    remote_dir: str = "prunekit"
    """From the home folder there, or absolute; the bundle gets a folder in it."""
    python: str = "python3"
    """The interpreter there."""
    bench: bool = True
    build_options: tuple[str, ...] = ()
    """For `build` there."""

    def __post_init__(self) -> None:
        if self.backend not in ("tensorrt", "ort"):
            raise ExportUsageError(f"{spelled('--backend', 'backend')} takes tensorrt, ort; got {self.backend!r}.")
        for option, value in (("--remote-dir", self.remote_dir), ("--python", self.python)):
            if not value or value.startswith("-") or any(letter in value for letter in _ODD):
                raise ExportUsageError(f"{option} takes a plain path; got {value!r}.")
        if ".." in self.remote_dir.split("/"):
            raise ExportUsageError(f"--remote-dir takes a path without '..'; got {self.remote_dir!r}.")


@dataclass(frozen=True)
class Job:
    """A bundle for one device."""

    session: Session
    bundle: Path
    name: str
    files: Mapping[str, str]
    """sha256 by path."""
    config: DeployConfig
    reports: Path
    """Folder here for what is brought back."""
    on_step: OnStep
    """Told a step of `STEPS` and what is being done in it."""

    @property
    def target(self) -> Target:
        """Where the bundle goes."""
        root = self.config.remote_dir.removeprefix("~/").rstrip("/") or "/"
        return Target(root, self.name, self.config.python)

    def run(self) -> DeviceOutcome:
        """Go through all steps; a step that fails is the last one."""
        start_s = time.monotonic()
        reports: dict[str, Report] = {}
        error: str | None = None
        try:
            self._connect()
            self._copy()
            for name in self._steps():
                reports[name] = self._report(name)
        except PrunekitError as failed:
            error = printable_name(str(failed))
        said = list(sentences_of(reports))
        if error is None and said:
            error = "; ".join(said)
        files = tuple(str(self.reports / f"{name}.json") for name in reports)
        return DeviceOutcome(
            self.session.host.target, rows_of(reports), error, files, round(time.monotonic() - start_s, 1)
        )

    def _steps(self) -> Iterator[str]:
        return (step for step in _REPORTING if step != "bench" or self.config.bench)

    def _connect(self) -> None:
        self.on_step("connect", "looking for Python")
        done = self.session.run([self.config.python, "-c", _PROBE])
        if done.code != 0:
            said = done.complaint.rstrip(".") or f"exit code {done.code}"
            raise DeviceError(
                f"{self.config.python} of {self.session.host.target} cannot run the runtime: {said}. It needs Python "
                "3.10 or later with numpy; name another interpreter: --python PATH"
            )

    def _copy(self) -> None:
        def told(sent: int, size: int) -> None:
            self.on_step("copy", f"{sent / 2**20:.1f} of {size / 2**20:.1f} MiB")

        self.on_step("copy", "comparing files")
        copy_folder(self.session, self.bundle, self.files, self.target, told)

    def _report(self, name: str) -> Report:
        """Run a command of the runtime there, and keep what it reports."""
        self.on_step(name, "started")
        options = ["--bundle", ".", "--backend", self.config.backend, "--json"]
        options += self.config.build_options if name == "build" else ()
        done = self.session.run(
            [self.config.python, *_NO_BYTECODE, "-m", "prunekit_runtime", name, *options],
            folder=self.target.path,
            on_line=lambda line: self.on_step(name, line),
        )
        report = _parsed(done.output)
        if report is None:
            said = done.complaint.rstrip(".") or f"exit code {done.code}, and no report"
            raise DeviceError(f"{name} failed on {self.session.host.target}: {said}.")
        self.reports.mkdir(parents=True, exist_ok=True)
        write_atomically(self.reports / f"{name}.json", (json.dumps(report, indent=1) + "\n").encode())
        return report


# Only files that the manifest holds are run: no bytecode that lies beside them, and none is left there.
_NO_BYTECODE = ("-B", "-X", "pycache_prefix=/dev/null")
_PROBE = "import sys; sys.version_info >= (3, 10) or sys.exit('it is Python ' + sys.version.split()[0]); import numpy"


def _parsed(output: bytes) -> Report | None:
    """Return a report; None where the device wrote none."""
    try:
        value: Any = parse_json(output)
    except ValueError:
        return None
    return cast("Report", value) if isinstance(value, dict) else None
