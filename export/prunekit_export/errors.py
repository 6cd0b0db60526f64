"""The errors of exporting, by what the user has to mend."""

from prunekit_runtime.errors import PrunekitError, UsageError


class ExportError(PrunekitError):
    """A network cannot be written as ONNX, or the file does not give the network's numbers."""


class ExportUsageError(ExportError, UsageError):
    """A file, a setting or a package was asked for that there is not, or that does not go with the others."""


class EngineError(ExportError):
    """An engine cannot be built from an ONNX file here."""


class EngineUsageError(EngineError, ExportUsageError):
    """An engine was asked for where none can be built, or of a kind that there is not."""


class DeviceError(ExportError):
    """A device cannot be reached, or does not do what it was asked for."""
