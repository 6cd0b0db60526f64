"""The training before the first cut that pulls towards sparsity what is to go."""

from dataclasses import asdict
from typing import Final

from pydantic import TypeAdapter, ValidationError

from prunekit.errors import RunError
from prunekit.modelfile import LoadedModel, load_model
from prunekit.run import RunDirectory, read_json, write_json
from prunekit.training.extras import Extras
from prunekit.training.loop import fit
from prunekit.training.losses import make_regulariser
from prunekit.validation import first_sentence
from prunekit.workflows.pruning.analysing import Analysed
from prunekit.workflows.pruning.config import changed
from prunekit.workflows.pruning.job import Job
from prunekit.workflows.pruning.selecting import Selection

SELECTION: Final = "selection.json"


def sparsify(now: Analysed, chosen: Selection | None, job: Job) -> LoadedModel:
    """Train the network on under the pull that was asked for, or go on with it; return it as it then is.

    Args:
        now: the source network and its analysis.
        chosen: what the first cut keeps, for the pull on what goes alone.
        job: the pruning.
    """
    run, config = job.sparse_run, job.config
    recipe = changed(job.recipe, epochs=config.sparsity_epochs, sparsity=config.sparsity, distill="none")
    keep = None if chosen is None else chosen.keep
    recipe = recipe.model_copy(update={"selection": recipe.selection.model_copy(update={"strategy": "none"})})
    regulariser = make_regulariser(now.network, recipe.train, coupling=now.coupling, keep=keep)
    job.tell(f"Training {config.sparsity_epochs} epochs under {config.sparsity} sparsity")
    fit(
        now.loaded.segmenter,
        recipe,
        run,
        train_set=job.train_set,
        val_set=job.val_set,
        card=now.loaded.card,
        observer=job.observer,
        extras=Extras(regulariser=regulariser),
    )
    return load_model(run, trust_code=job.trust_code)


def write_selection(run: RunDirectory, selection: Selection) -> None:
    """Keep a choice that a training is about to follow: going on with it must follow the same."""
    write_json(run.path / SELECTION, asdict(selection))


def read_selection(run: RunDirectory) -> Selection | None:
    """Read it back; None if there is none.

    Raises:
        RunError: it is damaged.
    """
    path = run.path / SELECTION
    if not path.exists():
        return None
    try:
        return TypeAdapter(Selection).validate_python(read_json(path))
    except ValidationError as error:
        raise RunError(f"{path} is damaged: {first_sentence(error, Selection)}. Prune again.") from None
