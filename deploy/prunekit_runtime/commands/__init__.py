"""One file a command: `add_options` describes it to a parser and names the function that runs it."""

import argparse
from collections.abc import Callable, Mapping
from typing import Final

from prunekit_runtime.commands import bench, build, check, doctor, golden, predict, run, serve, time_layers

# What --help says of each, and who adds its options.
COMMANDS: Final[Mapping[str, tuple[str, Callable[[argparse.ArgumentParser], None]]]] = {
    "build": ("build a bundle's engines on this device, with TensorRT", build.add_options),
    "check": ("run a bundle's golden pictures on this device, and judge the labels", check.add_options),
    "bench": ("measure a bundle's models, or a model file with its golden file", bench.add_options),
    "doctor": ("look at what is on this device, and which commands can run here", doctor.add_options),
    "golden": ("write a golden file from an ONNX file, with ONNX Runtime", golden.add_options),
    "predict": ("label pictures: masks, overlays, contours", predict.add_options),
    "run": ("label pictures, videos or a camera with a bundle: masks, overlays", run.add_options),
    "serve": ("serve a bundle over HTTP: a picture in, a mask out", serve.add_options),
    "time-layers": ("time models that another machine sends", time_layers.add_options),
}
