"""Whether two runtimes give the same: logits and labels of an ONNX file against its source.

Judged at several sizes, in float64 where float32 does not decide.
"""

from prunekit_export.parity.compare import ParityReport as ParityReport
from prunekit_export.parity.compare import Shape as Shape
from prunekit_export.parity.compare import draw_images as draw_images
from prunekit_export.parity.compare import parity as parity
from prunekit_export.parity.compare import parity_shapes as parity_shapes
from prunekit_export.parity.pictures import PictureParity as PictureParity
from prunekit_export.parity.pictures import picture_parity as picture_parity
