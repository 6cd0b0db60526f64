"""Pictures: the network with its channel groups, and what a pruning did to it.

Groups are listed, followed along the graph, laid out and drawn as SVG or DOT.
"""

from prunekit.pruning.picture.drawing import draw_dot as draw_dot
from prunekit.pruning.picture.drawing import draw_svg as draw_svg
from prunekit.pruning.picture.graph import flow as flow
from prunekit.pruning.picture.listing import GroupRow as GroupRow
from prunekit.pruning.picture.listing import Inspection as Inspection
from prunekit.pruning.picture.listing import inspection as inspection
from prunekit.pruning.picture.report_figure import GroupChange as GroupChange
from prunekit.pruning.picture.report_figure import PartChange as PartChange
from prunekit.pruning.picture.report_figure import StageChange as StageChange
from prunekit.pruning.picture.report_figure import draw_report as draw_report
