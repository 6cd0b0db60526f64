"""Latency tables: layers timed by ONNX Runtime or TensorRT, calibrated to whole networks, kept in a cache.

`open_meter` is what pruning for a latency needs of it.
"""

from prunekit_export.latency.device_timing import DeviceStopwatch as DeviceStopwatch
from prunekit_export.latency.meter import LatencyMeter as LatencyMeter
from prunekit_export.latency.meter import Runtime as Runtime
from prunekit_export.latency.meter import device_timer as device_timer
from prunekit_export.latency.meter import open_meter as open_meter
from prunekit_export.latency.meter import refuse_unmeasured as refuse_unmeasured
