"""The errors of exporting, by what the user has to mend."""

from prunekit_runtime.errors import PrunekitError


class ExportError(PrunekitError):
    """A network cannot be written as ONNX, or the file does not give the network's numbers."""


class EngineError(ExportError):
    """An engine cannot be built from an ONNX file here."""
