"""What a bundle holds, and where.

N images, h, w the network's size, H, W a picture's size, K classes.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Optional

from prunekit_runtime.classes import Classes
from prunekit_runtime.errors import BundleUsageError
from prunekit_runtime.near import did_you_mean
from prunekit_runtime.preprocessing import Preprocessing

Graph = Literal["labels", "logits"]
Profile = dict[str, tuple[int, ...]]
"""The input's smallest, tuned and largest shape: "min", "opt", "max"."""

BUILT = "built"
REPORTS = "reports"


@dataclass(frozen=True)
class InputEntry:
    """A model's input; None in the shape where it takes any size."""

    name: str
    dtype: str
    shape: tuple[Optional[int], ...]

    def to_json(self) -> dict[str, Any]:
        """Return it as a JSON object."""
        return {"name": self.name, "dtype": self.dtype, "shape": list(self.shape)}


@dataclass(frozen=True)
class ModelEntry:
    """An ONNX file: float32 (N, 3, h, w) to logits, or with graph "labels" uint8 (N, H, W, 3) to labels (N, H, W)."""

    name: str
    precision: str
    graph: Graph
    file: str
    """From the bundle's folder, with slashes."""
    input: InputEntry
    profile: Optional[Profile] = None
    """Where the input has open sizes."""

    @property
    def input_shape(self) -> tuple[Optional[int], ...]:
        """Of the input, None where it takes any size."""
        return self.input.shape

    def path(self, folder: Path) -> Path:
        """Return where the file lies in a bundle's folder."""
        return folder / self.file

    def to_json(self) -> dict[str, Any]:
        """Return it as a JSON object."""
        profile = None if self.profile is None else {key: list(shape) for key, shape in self.profile.items()}
        return {
            "name": self.name,
            "precision": self.precision,
            "graph": self.graph,
            "file": self.file,
            "input": self.input.to_json(),
            "profile": profile,
        }


@dataclass(frozen=True)
class GoldenEntry:
    """A validation picture, what the network was seen to say of it, and the truth where it is known."""

    name: str
    picture: str
    labels: str
    truth: Optional[str] = None
    logits: Optional[str] = None

    def to_json(self) -> dict[str, Any]:
        """Return it as a JSON object."""
        return dict(vars(self))


@dataclass(frozen=True)
class Bundle:
    """An opened bundle: every file that it lists is there and is the one that was written."""

    folder: Path
    name: str
    written_by: str
    lineage: tuple[str, ...]
    """The runs that it comes from, the first one first."""
    models: tuple[ModelEntry, ...]
    golden: tuple[GoldenEntry, ...]
    contract: Preprocessing
    classes: Classes

    @property
    def built_dir(self) -> Path:
        """Where engines are kept."""
        return self.folder / BUILT

    @property
    def reports_dir(self) -> Path:
        """Where reports are written."""
        return self.folder / REPORTS

    def model(self, wanted: Optional[str] = None) -> ModelEntry:
        """Return the model of a name or a precision; without either, the one there is or the float32 one.

        Raises:
            BundleUsageError: there is none, or several.
        """
        if wanted is None:
            found = self.models if len(self.models) == 1 else self._of("fp32")
        else:
            found = [entry for entry in self.models if entry.name == wanted] or self._of(wanted)
        if len(found) != 1:
            names = sorted({name for entry in self.models for name in (entry.name, entry.precision)})
            asked = "A model has to be chosen" if wanted is None else f"No single model is called {wanted!r}"
            raise BundleUsageError(
                f"{asked}; the bundle holds {', '.join(names)}. Name one: --model NAME."
                f"{did_you_mean(wanted or '', names)}"
            )
        return found[0]

    def _of(self, precision: str) -> list[ModelEntry]:
        found = [entry for entry in self.models if entry.precision == precision]
        return [entry for entry in found if entry.graph == "labels"] or found
