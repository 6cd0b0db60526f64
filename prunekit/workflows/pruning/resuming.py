"""What a pruning is gone on with: its source, its recipe, its criterion, and whether anything is left to do."""

from pathlib import Path

from prunekit.data_paths import root_override
from prunekit.errors import RunError, UntrustedCodeError
from prunekit.modelfile import check_model, read_card
from prunekit.pruning.criteria import criterion_named
from prunekit.recipe import Recipe
from prunekit.run import RunDirectory
from prunekit.workflows.pruning.config import PruneConfig, fine_tuning_recipe
from prunekit.workflows.pruning.report import REPORT, PruneReport


def check_criterion(config: PruneConfig, target: RunDirectory, trust_code: bool) -> None:
    """Refuse a criterion that prunekit does not bring, for a file names it; one that is trusted is imported.

    Raises:
        UntrustedCodeError: it is not trusted.
        PruneError: it cannot be imported.
    """
    try:
        criterion_named(config.criterion, trust_code=trust_code)
    except UntrustedCodeError as error:
        raise UntrustedCodeError(f"{target.path / REPORT}: {error.what}") from None


def recipe_of(report: PruneReport, config: PruneConfig, target: RunDirectory, root: str | None) -> Recipe:
    """Return the recipe of a pruning, of data that moved to `root`; one killed before it was written is made again."""
    if target.recipe_path.exists():
        return target.recipe(root_override(root))
    return fine_tuning_recipe(find_source(report, target).recipe(root_override(root)), config)


def is_whole(target: RunDirectory) -> bool:
    """Tell whether a finished pruning still has its model."""
    try:
        check_model(target)
    except RunError:
        return False
    return True


def find_source(report: PruneReport, target: RunDirectory) -> RunDirectory:
    """Return the run that a pruning began with: where it was, or where it lies now if both were moved.

    Raises:
        RunError: it is gone, or holds other weights now.
    """
    named = Path(report.source)
    beside = (target.path / report.source_relative, target.path.parent / named.name)
    there = [run for run in map(RunDirectory, (named, *beside)) if run.model_path.exists()]
    if not there:
        raise RunError(f"{target.path} prunes {named}, which is gone. Restore it to continue, or prune another run.")
    for run in there:
        if read_card(run).weights_sha256 == report.source_sha256:
            return run
    raise RunError(f"{there[0].path} holds other weights than {target.path} began with. Prune it again.")
