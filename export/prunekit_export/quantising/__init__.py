"""int8: calibration, the Q/DQ nodes that TensorRT fuses, and which layers must stay fp16 for the mIoU.

A file is judged by its labels and its mIoU, not by its largest error.
"""

from prunekit_export.quantising.calibration import CALIBRATIONS as CALIBRATIONS
from prunekit_export.quantising.calibration import Calibration as Calibration
from prunekit_export.quantising.calibration import Ranges as Ranges
from prunekit_export.quantising.calibration import calibrated as calibrated
from prunekit_export.quantising.images import covering as covering
from prunekit_export.quantising.judging import IGNORED as IGNORED
from prunekit_export.quantising.judging import Cost as Cost
from prunekit_export.quantising.judging import Judge as Judge
from prunekit_export.quantising.judging import Judged as Judged
from prunekit_export.quantising.judging import LabelledPicture as LabelledPicture
from prunekit_export.quantising.layers import KeptLayer as KeptLayer
from prunekit_export.quantising.layers import Layers as Layers
from prunekit_export.quantising.layers import layers_of as layers_of
from prunekit_export.quantising.quantizer import quantised as quantised
from prunekit_export.quantising.report import QuantisedReport as QuantisedReport
from prunekit_export.quantising.searching import Found as Found
from prunekit_export.quantising.searching import fewest_kept as fewest_kept
