"""TensorRT and TensorRT-RTX engines: built from an ONNX file, with a report of what was built.

Packages are imported when an engine is asked for.
"""

from prunekit_export.engine.build import build_engine as build_engine
from prunekit_export.engine.build import choose_package as choose_package
from prunekit_export.engine.options import DEFAULT_TARGETS as DEFAULT_TARGETS
from prunekit_export.engine.options import USUAL as USUAL
from prunekit_export.engine.options import EngineOptions as EngineOptions
from prunekit_export.engine.report import EngineReport as EngineReport
from prunekit_export.engine.report import Profile as Profile
