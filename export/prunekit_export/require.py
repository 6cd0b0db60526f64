"""The one way to import a package that an extra brings."""

import importlib
from types import ModuleType

from prunekit_export.errors import ExportError, ExportUsageError

_INSTALL = {
    "tensorrt": 'On a Jetson use the system package; elsewhere: pip install "prunekit[trt]"',
    "tensorrt_rtx": 'Install it: pip install "prunekit[rtx]"',
}


def require(package: str) -> ModuleType:
    """Import `package`.

    Raises:
        ExportError: it is not installed, or installed and broken; the message says which and what to do.
    """
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as error:
        if error.name != package:
            raise ExportError(f"{package} is installed but incomplete: {error}. {_INSTALL[package]}") from error
        raise ExportUsageError(f"{package} is not installed. {_INSTALL[package]}") from None
    except ImportError as error:
        # A missing shared library (libnvinfer, libnvdla_compiler) is not "not installed": show what the loader said.
        raise ExportError(f"{package} is installed but does not load: {error}") from error
