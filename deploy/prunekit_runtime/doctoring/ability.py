"""What the commands can do here, from what was found, and what they lack."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from prunekit_runtime.doctoring.finding import Finding

_COMMANDS = "build, check, bench, run, serve"
_BASE = ("Python", "numpy")
# What -> the backend it is about, and subjects of which all are needed; a bar joins those of which one will do.
_NEEDS: dict[str, tuple[str | None, tuple[str, ...]]] = {
    f"{_COMMANDS} with TensorRT": ("tensorrt", (*_BASE, "Jetson", "GPU", "TensorRT", "CUDA runtime", "bundle")),
    f"{_COMMANDS} with ONNX Runtime on the CPU (--backend ort)": ("ort", (*_BASE, "ONNX Runtime", "bundle")),
    "JPEG pictures": (None, ("Pillow|OpenCV",)),
    "videos and cameras": (None, ("OpenCV",)),
}


@dataclass(frozen=True)
class Ability:
    """Something that commands do, and what keeps them from it."""

    name: str
    backend: str | None
    """None for what is the same whatever runs the model."""
    lacks: tuple[str, ...]
    """Empty where it works."""

    @property
    def works(self) -> bool:
        """Whether nothing is lacking."""
        return not self.lacks

    def to_json(self) -> dict[str, Any]:
        """Return it as a JSON object."""
        return {**asdict(self), "works": self.works}


def abilities(findings: Sequence[Finding]) -> tuple[Ability, ...]:
    """Return what can be done; a subject that was not looked at, as Jetson on another machine, is not needed."""
    by_subject = {finding.subject: finding for finding in findings}
    return tuple(
        Ability(name, backend, tuple(_lacking(by_subject, subjects))) for name, (backend, subjects) in _NEEDS.items()
    )


def _lacking(found: dict[str, Finding], subjects: Sequence[str]) -> Iterator[str]:
    for subject in subjects:
        choices = [found[name] for name in subject.split("|") if name in found]
        # Packages that are optional are a note where they are absent, which is enough to lack them.
        is_optional = "Pillow" in subject or "OpenCV" in subject
        if choices and all(each.state == "missing" or (is_optional and each.state != "ok") for each in choices):
            yield subject.replace("|", " or ")
