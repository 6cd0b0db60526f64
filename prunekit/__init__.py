"""Prune, fold and export semantic-segmentation networks. Importing this package does not import torch.

small = prunekit.prune(model, train_loader, ratio=0.5)  # any nn.Module, any loader of (images, labels)
segmenter = prunekit.load("runs/0002-prune")  # the network of a run
prunekit.export("runs/0002-prune")  # ONNX, checked against torch

docs/library.md has a page on each name. `__init__.pyi` is what type checkers read.
"""

__version__ = "0.1.0"

# Where each public name is defined. Names are looked up when they are first used: an import of this package is cheap,
# and `export`, which lies in a package above the library, is not imported by it.
_PLACES = {
    "CRITERIA": "prunekit.pruning.criteria",
    "Coupling": "prunekit.pruning.coupling",
    "Criterion": "prunekit.pruning.criteria",
    "Evidence": "prunekit.pruning.evidence",
    "Group": "prunekit.pruning.coupling",
    "LoadedSegmenter": "prunekit.workflows.library.loading",
    "ModuleReport": "prunekit.workflows.library.report",
    "Plan": "prunekit.pruning.surgery",
    "Preprocessing": "prunekit_runtime.preprocessing",
    "Progress": "prunekit.workflows.library.progress",
    "ProgressLine": "prunekit.workflows.library.progress",
    "PrunekitError": "prunekit.errors",
    "Ranked": "prunekit.pruning.criteria",
    "Ranking": "prunekit.pruning.evidence",
    "Scored": "prunekit.pruning.criteria",
    "Scores": "prunekit.workflows.library.scores",
    "Segmenter": "prunekit.models.segmenter",
    "analyse": "prunekit.workflows.library.subject",
    "evaluate": "prunekit_export.library",
    "export": "prunekit_export.library",
    "load": "prunekit.workflows.library.loading",
    "open_meter": "prunekit_export.latency",
    "predict": "prunekit_export.library",
    "prune": "prunekit.workflows.library.prune",
}
__all__ = list(_PLACES)  # pyright: ignore[reportUnsupportedDunderAll]  the stub lists them


def __getattr__(name: str) -> object:
    """Find a public name where it is defined, once."""
    import importlib

    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}", name=name, obj=_this())
    value = getattr(importlib.import_module(_PLACES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names, whether they were used or not."""
    return sorted({*__all__, *(name for name in globals() if name.startswith("__"))})


def _this() -> object:
    """Return this module, so that Python can suggest a near name."""
    import sys

    return sys.modules[__name__]
