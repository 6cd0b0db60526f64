"""A network of the caller's own, run for its logits and left as it was.

Shapes: B batch, K classes, h w the images' size.
"""

from collections.abc import Callable, Generator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from prunekit.errors import ModelError
from prunekit.models.segmenter import Segmenter
from prunekit.workflows.library.subject import Subject


@contextmanager
def running(model: nn.Module) -> Generator[Callable[[Tensor], Tensor], None, None]:
    """Give what runs images_B3hw to logits_BKhw of their size, in evaluation mode, on the network's device.

    Raises:
        ModelError: the network returns no logits of at least two classes.
    """
    modes = [(module, module.training) for module in model.modules()]
    subject, found = Subject(model), list[Segmenter]()

    def run(images_B3hw: Tensor) -> Tensor:
        moved_B3hw = images_B3hw.to(subject.device)
        with torch.no_grad():
            if not found:
                found.append(subject.segmenter(_count(subject.num_classes((moved_B3hw[:1],)))))
            return found[0](moved_B3hw)

    model.eval()
    try:
        yield run
    finally:
        for module, training in modes:
            module.training = training


def _count(classes: int | None) -> int:
    if classes is None or classes < 2:
        got = "no logits (B, classes, H, W)" if classes is None else "one channel"
        raise ModelError(f"The network returns {got}; a score by class needs logits of at least 2 classes.")
    return classes
