"""The number types in an ONNX file: the passes to fp16 and bf16, what may not leave float32, and the shares as written.

A further precision is a further pass here.
"""

from prunekit_export.precision.counting import macs_by_type as macs_by_type
from prunekit_export.precision.counting import precision_name as precision_name
from prunekit_export.precision.counting import shares as shares
from prunekit_export.precision.half import HalfPass as HalfPass
from prunekit_export.precision.opset import NewerOpsetPass as NewerOpsetPass
from prunekit_export.precision.range_scan import RangeReport as RangeReport
from prunekit_export.precision.range_scan import scan_ranges as scan_ranges
from prunekit_export.precision.rounding import RoundingError as RoundingError
from prunekit_export.precision.rounding import rounded as rounded
from prunekit_export.precision.session import open_session as open_session
from prunekit_export.precision.types import BF16 as BF16
from prunekit_export.precision.types import FP16 as FP16
from prunekit_export.precision.types import HALVES as HALVES
from prunekit_export.precision.types import Half as Half
from prunekit_export.precision.types import half_of as half_of
from prunekit_export.precision.types import holds_int8 as holds_int8
