"""Label pictures and videos with a run, an ONNX file or an engine.

The device does the same with `prunekit_runtime.predicting`, which this adds formats and the legend to.
"""

from prunekit_export.predicting.workflow import Inputs as Inputs
from prunekit_export.predicting.workflow import PredictConfig as PredictConfig
from prunekit_export.predicting.workflow import count_frames as count_frames
from prunekit_export.predicting.workflow import find_inputs as find_inputs
from prunekit_export.predicting.workflow import predict as predict
