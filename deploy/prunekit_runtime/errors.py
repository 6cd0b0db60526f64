"""The one root exception of prunekit: everything a user can cause, and nothing that is our own mistake."""


class PrunekitError(Exception):
    """A user's input cannot be followed. The message says what, what was got, and what to do."""


class ContractError(PrunekitError):
    """A preprocessing contract, or an image given to it, is not usable."""


class RunnerError(PrunekitError):
    """A model file cannot be run here: missing package, wrong provider, wrong shape."""


class MeasureError(PrunekitError):
    """A measurement cannot be taken as asked."""


class GoldenError(PrunekitError):
    """A golden file is damaged, too large, or belongs to another model."""
