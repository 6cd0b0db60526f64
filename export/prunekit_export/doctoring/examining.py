"""Try everything that the commands use, and say what each of them lacks."""

from __future__ import annotations

import importlib.metadata
import platform
import re
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from prunekit_export.doctoring.trials import TRIALS
from prunekit_runtime.doctoring import Finding, State, package_findings
from prunekit_runtime.errors import PrunekitError
from prunekit_runtime.text import printable_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

_BOUND = re.compile(r"(>=|<)\s*([\d.]+)")
_NAME = re.compile(r"^([A-Za-z0-9._-]+)")
_MOST_TEXT = 300
# What can be done, and subjects of which all are needed; the core is what the exit code is about.
_BASE = ("Python", "torch", "torchvision", "segmentation-models-pytorch", "matplotlib")
_EXPORT = (*_BASE, "onnx", "onnxscript", "onnx-graphsurgeon", "ONNX Runtime")
_NEEDS: dict[str, tuple[str, ...]] = {
    "train, import, prune, eval of runs": _BASE,
    "export, bundle, profile and eval of ONNX files": _EXPORT,
    "engines: export --trt": (*_EXPORT, "TensorRT"),
    "engines run and measured here": ("TensorRT", "GPU"),
    "models hf:...": ("transformers",),
    "videos": ("OpenCV",),
    "deploy, prune --on": (*_EXPORT, "ssh"),
}
_CORE = 2  # of these


@dataclass(frozen=True)
class Doing:
    """Commands, and what keeps them from working here."""

    name: str
    lacks: tuple[str, ...]
    core: bool

    @property
    def works(self) -> bool:
        """Whether nothing is lacking."""
        return not self.lacks

    def to_json(self) -> dict[str, Any]:
        """Return it as a JSON object."""
        return {"name": self.name, "works": self.works, "lacks": list(self.lacks), "core": self.core}


@dataclass(frozen=True)
class Examination:
    """All that was tried, and what can be done."""

    findings: tuple[Finding, ...]
    doings: tuple[Doing, ...]

    @property
    def healthy(self) -> bool:
        """Whether the core commands work."""
        return all(each.works for each in self.doings if each.core)

    def to_json(self) -> dict[str, Any]:
        """Return it as a JSON object."""
        findings = [each.to_json() for each in self.findings]
        return {
            "healthy": self.healthy,
            "findings": findings,
            "commands": [each.to_json() for each in self.doings],
        }


def examine(on_subject: Callable[[str, int, int], None] = lambda _subject, _done, _all: None) -> Examination:
    """Try everything.

    Args:
        on_subject: told (subject, subjects done, subjects in all) before each.
    """
    bounds = _bounds()
    subjects = (*TRIALS, "TensorRT", "GPU")
    findings = [Finding("prunekit", "ok", _version("prunekit") or "not installed as a package"), _python()]
    for number, subject in enumerate(subjects):
        on_subject(subject, number, len(subjects))
        if subject in TRIALS:
            findings.append(_tried(subject, bounds))
        elif subject == "GPU":
            findings.append(_gpu())
        else:
            findings += [each for each in package_findings() if each.subject == subject]
    optional = {"TensorRT", "GPU", "transformers", "OpenCV", "ssh", "rsync"}
    shown = tuple(_as_note(each) if each.subject in optional else each for each in findings)
    return Examination(shown, tuple(_doings(findings)))


def _doings(findings: Sequence[Finding]) -> Iterator[Doing]:
    missing = {each.subject for each in findings if each.state == "missing"}
    for number, (name, needs) in enumerate(_NEEDS.items()):
        yield Doing(name, tuple(subject for subject in needs if subject in missing), number < _CORE)


def _as_note(finding: Finding) -> Finding:
    state: State = "note" if finding.state == "missing" else finding.state
    return Finding(finding.subject, state, finding.found, finding.remedy)


def _python() -> Finding:
    found = platform.python_version()
    about: Any = importlib.metadata.metadata("prunekit") if _version("prunekit") else {}
    return _within("Python", found, found, about.get("Requires-Python") or "", "install Python 3.11 or 3.12")


def _tried(subject: str, bounds: dict[str, str]) -> Finding:
    distribution, trial, remedy = TRIALS[subject]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of imports that are not ours
            found = printable_name(trial())[:_MOST_TEXT]
    except ModuleNotFoundError as error:
        return Finding(subject, "missing", printable_name(str(error))[:_MOST_TEXT], remedy)
    except PrunekitError as error:
        return Finding(subject, "missing", printable_name(str(error))[:_MOST_TEXT], remedy)
    except Exception as error:  # a broken package raises what it likes
        words = f"installed, and does not work: {type(error).__name__}: {' '.join(str(error).split())}"
        return Finding(subject, "missing", printable_name(words)[:_MOST_TEXT], remedy)
    name = distribution or subject
    return _within(subject, found, _version(name) or found, bounds.get(_same(name), ""), remedy)


def _within(subject: str, found: str, version: str, bounds: str, remedy: str) -> Finding:
    """Hold a version to bounds such as ">=2.11,<3"."""
    got = _numbers(version)
    for sign, limit in _BOUND.findall(bounds):
        if got and ((sign == ">=" and got < _numbers(limit)) or (sign == "<" and got >= _numbers(limit))):
            return Finding(subject, "missing", f"{found}; {bounds} is needed", remedy)
    return Finding(subject, "ok", found)


def _gpu() -> Finding:
    from prunekit_runtime.running.gpu import describe_gpu

    gpu = describe_gpu()
    if gpu.name is None:
        return Finding("GPU", "missing", gpu.missing or "none", "see whether the driver works: nvidia-smi")
    return Finding("GPU", "ok", f"{gpu.name}, driver {gpu.driver or 'unknown'}, CUDA {gpu.cuda_driver}")


def _bounds() -> dict[str, str]:
    """Return the bounds of each distribution that prunekit asks for, by its name in small letters."""
    try:
        asked: Iterable[str] = importlib.metadata.requires("prunekit") or ()
    except importlib.metadata.PackageNotFoundError:
        return {}
    found: dict[str, str] = {}
    for line in asked:
        name = _NAME.match(line)
        if name is not None:
            found.setdefault(_same(name[1]), line[name.end() :].partition(";")[0].strip())
    return found


def _same(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _numbers(version: str) -> tuple[int, ...]:
    found = re.match(r"\d+(?:\.\d+)*", version)
    return tuple(int(part) for part in found.group().split(".")[:6]) if found else ()


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None
