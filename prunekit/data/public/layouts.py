"""The public data sets by name."""

from collections.abc import Mapping
from typing import Final

from prunekit.data.public.ade20k import ADE20K
from prunekit.data.public.cityscapes import CITYSCAPES
from prunekit.data.public.coco_stuff import COCO_STUFF
from prunekit.data.public.dataset import Layout
from prunekit.data.public.voc import VOC, VOC_AUG

LAYOUTS: Final[Mapping[str, Layout]] = {
    layout.name: layout for layout in (CITYSCAPES, ADE20K, VOC, VOC_AUG, COCO_STUFF)
}
