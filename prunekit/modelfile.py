"""The model file: weights in safetensors, and beside them a JSON that says what they belong to. No pickle.

A network is rebuilt by making the dense one from its factory, applying the pruning plan, and loading the weights.
"""

import contextlib
import hashlib
import shlex
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from torch import Tensor, nn

from prunekit import __version__
from prunekit.data.dataset import ClassMap
from prunekit.errors import DataError, ModelError, RunError, RunUsageError, UntrustedCodeError
from prunekit.models.segmenter import Segmenter
from prunekit.models.soundness import check_weights
from prunekit.models.trust import Bounded
from prunekit.models.zoo import build
from prunekit.pruning.surgery import Plan, prune_
from prunekit.recipe import ModelConfig
from prunekit.run import IMPORT, PRUNE, RunDirectory, resume_command, write_atomically
from prunekit.tensorfile import read_tensors, size_bytes, write_tensors
from prunekit.validation import first_sentence
from prunekit_runtime.errors import ContractError
from prunekit_runtime.jsonfile import parse_json, read_bounded
from prunekit_runtime.preprocessing import Preprocessing

FORMAT: Final = 1
MAX_CARD_BYTES: Final = 1 << 25  # a plan lists every kept channel of every parameter: 32 MiB is far above any
PLAUSIBLE_BYTES: Final = 2 << 30
PLAUSIBLE_RATIO: Final = 200
"""A dense network may be this large whatever its pruned weights are, or this many times as large as they are."""
_PACKAGES: Final = ("torch", "torchvision", "segmentation-models-pytorch", "transformers")


class ModelCard(BaseModel):
    """What the weights belong to: all that is needed to rebuild, feed and read the network."""

    # Strict refuses a number where text is due; JSON has no tuples, so lists are validated in `read_card`.
    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal[1] = FORMAT
    factory: str = Field(max_length=4096)
    """The model specification, "smp:Unet?encoder=resnet18"."""
    head: Literal["plain", "ccs"]
    num_classes: int = Field(ge=1, le=255)
    plan: dict[str, Any] | None = None
    """The pruning plan; its names are those of the dense network."""
    class_names: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]
    ignore_index: int = Field(ge=0, le=255)
    preprocessing: dict[str, Any]
    lineage: tuple[dict[str, Any], ...] = ()
    """What was done to the network, oldest first."""
    versions: dict[str, str] = {}
    weights_sha256: str = Field(default="", pattern=r"^([0-9a-f]{64})?$")

    @model_validator(mode="after")
    def _consistent(self) -> "ModelCard":
        if not len(self.class_names) == len(self.palette) == self.num_classes:
            raise ValueError(
                f"{self.num_classes} classes, {len(self.class_names)} names and {len(self.palette)} colours differ"
            )
        return self

    @property
    def classes(self) -> ClassMap:
        """The classes, their colours and the ignore index."""
        return ClassMap(self.class_names, self.palette, self.ignore_index)

    @property
    def contract(self) -> Preprocessing:
        """The preprocessing contract."""
        return Preprocessing.from_json(self.preprocessing)

    def followed_by(self, step: dict[str, Any]) -> "ModelCard":
        """Return a card whose lineage has one step more."""
        return self.model_copy(update={"lineage": (*self.lineage, step)})


@dataclass(frozen=True)
class LoadedModel:
    """A network read from a run, in evaluation mode on the CPU."""

    segmenter: Segmenter
    card: ModelCard
    contract: Preprocessing


def new_card(model: ModelConfig, classes: ClassMap, contract: Preprocessing) -> ModelCard:
    """Return the card of a dense network that the recipe describes; its lineage is empty."""
    return ModelCard(
        factory=model.name,
        head=model.head,
        num_classes=len(classes),
        class_names=classes.names,
        palette=classes.palette,
        ignore_index=classes.ignore_index,
        preprocessing=contract.to_json(),
    )


def save_model(run: RunDirectory, segmenter: Segmenter, card: ModelCard) -> ModelCard:
    """Write `model.safetensors`, then `model.json` with its hash; each is replaced whole.

    Returns:
        the card as written, with versions and hash.

    Raises:
        ModelError: weights are not finite; nothing is written.
    """
    check_weights(segmenter.network)
    write_tensors(run.weights_path, plain_tensors(segmenter.network))
    digest = sha256_of(run.weights_path)
    written = card.model_copy(update={"weights_sha256": digest, "versions": _versions()})
    write_atomically(run.model_path, (written.model_dump_json(indent=1) + "\n").encode())
    return written


def load_model(run: RunDirectory, *, trust_code: bool = False) -> LoadedModel:
    """Read a model file back.

    Args:
        run: the run that holds it.
        trust_code: allow a factory outside prunekit, which runs that package's code.

    Raises:
        RunError: a file is missing, too large, damaged, or does not fit the other.
        ModelError: the network cannot be built, or its weights are not finite.
        UntrustedCodeError: its factory is not one of prunekit's own, and not trusted.
        PruneError: the plan does not fit the network.
    """
    card = read_card(run)
    _check_hash(run, card)
    try:
        with contextlib.nullcontext() if trust_code else Bounded(_most_bytes(run)):
            segmenter = rebuild(card, trust_code=trust_code)
    except UntrustedCodeError as error:
        raise UntrustedCodeError(f"{run.model_path}: {error.what}") from None
    except ModelError as error:
        raise ModelError(f"{run.model_path}: {error}") from error
    _load_weights_(segmenter.network, run.weights_path)
    try:
        check_weights(segmenter.network)
    except ModelError as error:
        raise ModelError(f"{run.weights_path}: {error} Train again with a lower learning rate.") from None
    return LoadedModel(segmenter.eval(), card, card.contract)


def _most_bytes(run: RunDirectory) -> int:
    """Return how large a network from this run may be before it is pruned."""
    return max(PLAUSIBLE_BYTES, PLAUSIBLE_RATIO * run.weights_path.stat().st_size)


def rebuild(card: ModelCard, *, trust_code: bool = False) -> Segmenter:
    """Build the card's network with random weights: the dense one, then its plan. Global generators stay untouched."""
    with torch.random.fork_rng(()):
        segmenter = build(
            card.factory, num_classes=card.num_classes, head=card.head, trust_code=trust_code, restored=True
        )
    if card.plan is not None:
        prune_(segmenter.network, Plan.from_json(card.plan))
    return segmenter


def read_card(run: RunDirectory) -> ModelCard:
    """Read and check `model.json`.

    Raises:
        RunError: it is missing, too large, or not a card.
    """
    path = run.model_path
    if not path.is_file():
        raise RunUsageError(_unfinished(run))
    try:
        content = read_bounded(path, MAX_CARD_BYTES)
        parse_json(content)  # its bounds; the values are read by the next line, which knows JSON's lists as tuples
        card = ModelCard.model_validate_json(content, strict=True)
        _ = card.contract, card.classes  # both check their values
    except ValidationError as error:
        raise RunError(f"{path} is damaged: {first_sentence(error, ModelCard)}. {_again(run)}") from None
    except (ContractError, DataError) as error:
        raise RunError(f"{path} is damaged: {error}") from None
    except ValueError as error:
        raise RunError(f"{path} is damaged: {error}. {_again(run)}") from None
    return card


def plain_tensors(network: nn.Module) -> dict[str, Tensor]:
    """Return a network's state as tensors that safetensors can hold: contiguous, on the CPU, each its own memory."""
    return {
        name: value.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
        for name, value in network.state_dict().items()
    }


def load_tensors_(network: nn.Module, tensors: dict[str, Tensor], source: Path) -> None:
    """Copy tensors into a network; names, shapes and types must be the same.

    Raises:
        RunError: they are not; names the first that differs.
    """
    own = network.state_dict()
    differing = sorted(own.keys() ^ tensors.keys())
    if differing:
        side = "is not in" if differing[0] in own else "is only in"
        raise RunError(f"{source} does not fit the network: {differing[0]} {side} the file. {_OTHER}")
    for name, value in tensors.items():
        if own[name].shape != value.shape or own[name].dtype != value.dtype:
            raise RunError(
                f"{source} does not fit the network: {name} is {value.dtype} {tuple(value.shape)} in the file, "
                f"{own[name].dtype} {tuple(own[name].shape)} in the network. {_OTHER}"
            )
    network.load_state_dict(tensors)


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


_OTHER: Final = "It was written for another network, or by another version of the library that builds it."


def check_model(run: RunDirectory) -> None:
    """Raise where a run's model file or weights are missing or damaged; nothing is built.

    Raises:
        RunError: they are.
    """
    _check_hash(run, read_card(run))


def _check_hash(run: RunDirectory, card: ModelCard) -> None:
    if not run.weights_path.is_file():
        raise RunError(f"{run.path} holds no model.safetensors. {_again(run)}")
    found = sha256_of(run.weights_path)
    if found != card.weights_sha256:
        raise RunError(
            f"{run.weights_path} is not the file that model.json describes: SHA-256 {found[:12]}..., "
            f"expected {card.weights_sha256[:12] or 'none'}... {_again(run)}"
        )


def _load_weights_(network: nn.Module, path: Path) -> None:
    remedy = "Copy it again, or repeat the step that wrote it."
    tensors, _ = read_tensors(path, remedy, expected_bytes=size_bytes(network.state_dict().values()))
    load_tensors_(network, tensors, path)


def _unfinished(run: RunDirectory) -> str:
    command = resume_command(run)
    if not run.path.is_dir() or command is None:
        return f"{run.path} holds no model.json, so its training did not end. {_again(run)}"
    return (
        f"{run.path} is not finished: it holds no model.json. Go on with: {command}   "
        f"How far it is: prunekit status {shlex.quote(str(run.path))}"
    )


def _again(run: RunDirectory) -> str:
    """Advise: networks as cut lie in their pruning, which writes its end again but not what it began from."""
    if run.path.name == "pruned" and (run.path.parent / "recipe.toml").exists():
        return "Prune again; the source run is unchanged."
    if (run.path / IMPORT).exists():
        return "Import the network again."
    step = "prune" if (run.path / PRUNE).exists() else "train"
    command = resume_command(run) or f"prunekit {step} --resume {shlex.quote(str(run.path))}"
    return f"Repeat the step that wrote it, or continue with: {command}"


def _versions() -> dict[str, str]:
    found = {"prunekit": __version__}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue  # an editable or vendored build without metadata: its version is not known
    return found
