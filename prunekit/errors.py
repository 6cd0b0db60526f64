"""The errors of the library, by what the user has to mend."""

from prunekit_runtime.errors import PrunekitError as PrunekitError
from prunekit_runtime.errors import UsageError as UsageError
from prunekit_runtime.spelling import spelled


class ConfigError(UsageError):
    """A recipe or an option holds a value that cannot be followed."""


class DataError(PrunekitError):
    """An image, a mask or a data set is missing or does not fit."""


class DataUsageError(DataError, UsageError):
    """A data set or a class list is not where it was said to be, or cannot be read like that."""


class ModelError(PrunekitError):
    """A network cannot be built or does not fulfil the Segmenter contract."""


class ModelUsageError(ModelError, UsageError):
    """A network, its arguments or its weights were named that there are not."""


class RunError(PrunekitError):
    """A run directory or a model file is missing, damaged or belongs to something else."""


class RunUsageError(RunError, UsageError):
    """A run was named that there is not, or one of another kind."""


class PruneError(PrunekitError):
    """A network cannot be analysed, or a pruning plan cannot be carried out."""


class PruneUsageError(PruneError, UsageError):
    """A target, a criterion or another setting of a pruning cannot be followed."""


class FoldError(PrunekitError):
    """A head cannot be folded as asked."""


class UntrustedCodeError(ModelUsageError, PruneUsageError, DataUsageError):
    """A run or a model file names code or a place to fetch from, and nobody said that it is trusted.

    `what` says so in a clause without a full stop, so that a command can add how it is to be repeated.
    """

    def __init__(self, what: str) -> None:
        super().__init__(f"{what}. If you trust it, {spelled('add --trust-code', 'pass trust_code=True')}.")
        self.what = what
