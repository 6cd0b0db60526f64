"""The module that each node of an exported file comes from, as the file tells it."""

import json
from typing import Any

MODULES = "prunekit.modules"
"""Key of the file's metadata: a JSON object of modules by node."""
_MAX_CHARS = 1 << 24


def read_modules(text: str) -> dict[str, str]:
    """Return modules by node; nothing where the text is none of ours."""
    if not text or len(text) > _MAX_CHARS:
        return {}
    try:
        told: Any = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return {str(name): str(module) for name, module in told.items()} if isinstance(told, dict) else {}
