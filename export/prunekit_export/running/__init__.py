"""Models run and judged: runs, ONNX files and engines behind one runner; mIoU and latency of each.

One runner is opened for all of them, with the contract that lies beside the model.
"""

from prunekit_export.running.evaluating import EvalReport as EvalReport
from prunekit_export.running.evaluating import evaluate_model as evaluate_model
from prunekit_export.running.evaluating import evaluate_runner as evaluate_runner
from prunekit_export.running.layers import LayerTime as LayerTime
from prunekit_export.running.layers import profile_layers as profile_layers
from prunekit_export.running.profiling import ModelLatency as ModelLatency
from prunekit_export.running.profiling import ProfileConfig as ProfileConfig
from prunekit_export.running.profiling import ProfileReport as ProfileReport
from prunekit_export.running.profiling import profile_models as profile_models
from prunekit_export.running.runners import CONTRACT as CONTRACT
from prunekit_export.running.runners import contract_for as contract_for
from prunekit_export.running.runners import contract_of_runner as contract_of_runner
from prunekit_export.running.runners import open_runner as open_runner
