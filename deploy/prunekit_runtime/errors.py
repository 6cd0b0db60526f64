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


class ContractError(PrunekitError):
    """A preprocessing contract, or an image given to it, is not usable."""


class RunnerError(PrunekitError):
    """A model file cannot be run here: missing package, wrong provider, wrong shape."""


class PictureError(PrunekitError):
    """A picture cannot be found, read or written."""


class MeasureError(PrunekitError):
    """A measurement cannot be taken as asked."""


class GoldenError(PrunekitError):
    """A golden file is damaged, too large, or belongs to another model."""
