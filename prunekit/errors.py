"""The errors of the library, by what the user has to mend."""

from prunekit_runtime.errors import PrunekitError as PrunekitError


class ConfigError(PrunekitError):
    """A recipe or an option holds a value that cannot be followed."""


class DataError(PrunekitError):
    """An image, a mask or a data set is missing or does not fit."""


class ModelError(PrunekitError):
    """A network cannot be built or does not fulfil the Segmenter contract."""


class RunError(PrunekitError):
    """A run directory or a model file is missing, damaged or belongs to something else."""


class PruneError(PrunekitError):
    """A network cannot be analysed, or a pruning plan cannot be carried out."""


class FoldError(PrunekitError):
    """A head cannot be folded as asked."""
