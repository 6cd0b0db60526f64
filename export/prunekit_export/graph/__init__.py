"""ONNX written: the export, what it refuses, and one file for each pass over the graph.

Passes do not import each other; `pass_base` says what one is.
"""

from prunekit_export.graph.onnx_export import BF16_OPSET as BF16_OPSET
from prunekit_export.graph.onnx_export import INPUT as INPUT
from prunekit_export.graph.onnx_export import OPSET as OPSET
from prunekit_export.graph.onnx_export import OUTPUT as OUTPUT
from prunekit_export.graph.onnx_export import ExportReport as ExportReport
from prunekit_export.graph.onnx_export import export_onnx as export_onnx
from prunekit_export.graph.onnx_export import frozen_copy as frozen_copy
from prunekit_export.graph.onnx_export import save_onnx as save_onnx
from prunekit_export.graph.onnx_export import set_metadata_ as set_metadata_
from prunekit_export.graph.onnx_export import value_dims as value_dims
from prunekit_export.graph.pass_base import PassResult as PassResult
from prunekit_export.graph.pictures import CONFIDENCE as CONFIDENCE
from prunekit_export.graph.pictures import LABELS as LABELS
from prunekit_export.graph.pictures import PICTURES as PICTURES
from prunekit_export.graph.pictures import PicturePass as PicturePass
from prunekit_export.graph.pictures import restored_logits as restored_logits
from prunekit_export.graph.surgeon import editable as editable
from prunekit_export.graph.surgeon import exported as exported
