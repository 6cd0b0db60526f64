"""Lines for NVIDIA's trtexec that build the files of an export, for those who build without prunekit.

Options are those that trtexec of TensorRT 10.3 and of 11 both take. `--stronglyTyped` is what 11 always does; neither
`--fp16` nor `--int8` is given, as 11 has none: the precision stands in the file.
"""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from prunekit_export.engine import EngineOptions, Profile


def trtexec_line(name: str, input_name: str, profile: Profile, options: EngineOptions) -> str:
    """Return the line that builds the engine of one file in its folder.

    Args:
        name: the ONNX file's.
        input_name: of its input.
        profile: the sizes that the engine takes.
        options: how it is built; the package and its targets have no word there.
    """
    words = ["trtexec", f"--onnx={name}", "--stronglyTyped", f"--saveEngine={name.removesuffix('.onnx')}.plan"]
    if not options.tf32:
        words.append("--noTF32")
    if profile.minimum != profile.maximum:
        sizes = {"min": profile.minimum, "opt": profile.optimum, "max": profile.maximum}
        words += [f"--{word}Shapes={input_name}:{'x'.join(map(str, size))}" for word, size in sizes.items()]
    return " ".join([*words, *_build_words(options), "--skipInference"])


def _build_words(options: EngineOptions) -> Iterator[str]:
    if options.workspace_mib is not None:
        yield f"--memPoolSize=workspace:{options.workspace_mib}"  # MiB where no unit stands
    if options.optimization_level is not None:
        yield f"--builderOptimizationLevel={options.optimization_level}"
    if options.timing_cache is not None:
        yield f"--timingCacheFile={shlex.quote(str(options.timing_cache))}"
    if options.version_compatible:
        yield "--versionCompatible"
    if options.hardware_compatible:
        yield "--hardwareCompatibilityLevel=ampere+"
    if options.refit:
        yield "--refit"


def trtexec_text(lines: Sequence[str]) -> str:
    """Return the file's text."""
    head = "# In this folder, on the machine that runs the engine: an engine is bound to its TensorRT and its GPU."
    return "\n".join([head, *lines]) + "\n"
