"""The one root exception of prunekit: everything a user can cause, and nothing that is our own mistake."""

MAX_MESSAGE = 4000  # characters
_END = 1000  # of these, what is kept of the end, where messages say what to do


class PrunekitError(Exception):
    """A user's input cannot be followed. The message says what, what was got, and what to do.

    Names and values of a damaged file can be of any length; the middle of such a message is left out.
    """

    def __str__(self) -> str:
        text = super().__str__()
        return text if len(text) <= MAX_MESSAGE else f"{text[: MAX_MESSAGE - _END - 5]} ... {text[-_END:]}"


class UsageError(PrunekitError):
    """What was asked for cannot be followed: a value, a name, a path, a combination, or a package that is not there.

    The request has to change, and nothing was tried. Commands end with exit code 2; any other error ends them with 1.
    """


class ContractError(PrunekitError):
    """A preprocessing contract, or an image given to it, is not usable."""


class ContractUsageError(ContractError, UsageError):
    """A contract is not where it was said to be, or does not go with what was asked for."""


class RunnerError(PrunekitError):
    """A model file cannot be run here: missing package, wrong provider, wrong shape."""


class EndsError(RunnerError):
    """A model file runs here, and its inputs and outputs are not those of a segmentation model."""


class RunnerUsageError(RunnerError, UsageError):
    """A model file is not where it was said to be, or not to be run with these options."""


class PictureError(PrunekitError):
    """A picture cannot be found, read or written."""


class PictureUsageError(PictureError, UsageError):
    """A picture is not where it was said to be, or is not to be labelled or written like that."""


class MeasureError(PrunekitError):
    """A measurement cannot be taken as asked."""


class MeasureUsageError(MeasureError, UsageError):
    """Numbers of runs or images cannot be taken."""


class GoldenError(PrunekitError):
    """A golden file is damaged, too large, or belongs to another model."""


class GoldenUsageError(GoldenError, UsageError):
    """A golden file is not where it was said to be."""


class BuildError(PrunekitError):
    """An engine cannot be built here, or what was built does not compute as asked."""


class BuildUsageError(BuildError, UsageError):
    """An engine cannot be built with these options, or has to be built first."""


class BundleError(PrunekitError):
    """A bundle is damaged, not whole, or holds what does not belong to it."""


class BundleUsageError(BundleError, UsageError):
    """A bundle is not where it was said to be, or does not hold what was asked for."""


class ServeError(PrunekitError):
    """Pictures cannot be served."""


class ServeUsageError(ServeError, UsageError):
    """The address, the port or the token to serve with cannot be used."""
