"""The number types in an ONNX file: the pass to fp16, what may not leave float32, and the shares as written.

A further precision is a further pass here.
"""

from prunekit_export.precision.counting import macs_by_type as macs_by_type
from prunekit_export.precision.counting import precision_name as precision_name
from prunekit_export.precision.counting import shares as shares
from prunekit_export.precision.fp16 import Fp16Pass as Fp16Pass
from prunekit_export.precision.range_scan import RangeReport as RangeReport
from prunekit_export.precision.range_scan import scan_ranges as scan_ranges
from prunekit_export.precision.rounding import RoundingError as RoundingError
from prunekit_export.precision.rounding import rounded as rounded
from prunekit_export.precision.session import open_session as open_session
from prunekit_export.precision.types import holds_half as holds_half
from prunekit_export.precision.types import holds_int8 as holds_int8
