"""A run's network as a module to call: `prunekit.load`."""

import os
from pathlib import Path

from prunekit.data.dataset import ClassMap
from prunekit.modelfile import ModelCard, load_model
from prunekit.models.segmenter import Segmenter
from prunekit.run import RunDirectory, open_run
from prunekit_runtime.preprocessing import Preprocessing
from prunekit_runtime.spelling import in_python


class LoadedSegmenter(Segmenter):
    """A network read from a run: images_B3HW float32, prepared by `contract` -> logits_BKHW at the same size."""

    card: ModelCard
    """What it is: factory, pruning plan, classes, and what was done to it (`lineage`)."""

    def __init__(self, segmenter: Segmenter, card: ModelCard) -> None:
        super().__init__(segmenter.network, segmenter.num_classes, segmenter.stride)
        self.card = card

    @property
    def contract(self) -> Preprocessing:
        """How an image becomes the network's input: `contract.prepare(image_HW3)` is a numpy array."""
        return self.card.contract

    @property
    def classes(self) -> ClassMap:
        """Names and colours of the classes, and the label that does not count."""
        return self.card.classes


@in_python()
def load(run: str | os.PathLike[str], *, trust_code: bool = False) -> LoadedSegmenter:
    """Return the network of a run, in evaluation mode on the CPU.

    Args:
        run: a run's folder, such as "runs/0002-prune", or any folder that holds a model file, such as its "pruned".
        trust_code: allow a run that somebody else made to run its own Python factory.

    Raises:
        RunError: the folder is no run, its training did not end, or a file is damaged.
        UntrustedCodeError: the network's factory is not one of prunekit's own, and not trusted.
        ModelError: the network cannot be built.
        PruneError: its pruning plan does not fit the network.
    """
    path = Path(run)
    found = RunDirectory(path)
    loaded = load_model(found if found.model_path.is_file() else open_run(path), trust_code=trust_code)
    segmenter = LoadedSegmenter(loaded.segmenter, loaded.card)
    segmenter.eval()
    return segmenter
