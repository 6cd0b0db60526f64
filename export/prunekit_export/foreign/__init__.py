"""ONNX files that others made: read with care, and given the ends that all else here works with."""

from prunekit_export.foreign.adopting import Adopted as Adopted
from prunekit_export.foreign.adopting import adopt as adopt
from prunekit_export.foreign.lowering import Lowering as Lowering
from prunekit_export.foreign.lowering import OnnxNetwork as OnnxNetwork
from prunekit_export.foreign.opening import read_foreign as read_foreign
from prunekit_export.foreign.workflow import FileConfig as FileConfig
from prunekit_export.foreign.workflow import FileOutcome as FileOutcome
from prunekit_export.foreign.workflow import export_file as export_file
