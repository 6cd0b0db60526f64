"""Latency tables: layers timed by ONNX Runtime or TensorRT, calibrated to whole networks, kept in a cache.

`open_meter` is what pruning for a latency needs of it.
"""

from prunekit_export.latency.meter import LatencyMeter as LatencyMeter
from prunekit_export.latency.meter import open_meter as open_meter
