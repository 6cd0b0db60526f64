"""Measured milliseconds of layers by their widths, and the search for a plan that meets a time.

Measuring is done above the library and handed in, since the library knows no runtime.
"""

from prunekit.pruning.latency.loop import TOLERANCE as TOLERANCE
from prunekit.pruning.latency.loop import meet_latency as meet_latency
from prunekit.pruning.latency.table import LatencyTable as LatencyTable
from prunekit.pruning.latency.table import LayerTimes as LayerTimes
from prunekit.pruning.latency.table import Machine as Machine
from prunekit.pruning.latency.table import layer_widths as layer_widths
from prunekit.pruning.latency.table import widths_of as widths_of
