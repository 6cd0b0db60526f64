from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from prunekit_cli.main import app

Invoke = Callable[..., Result]


@pytest.fixture
def invoke(tmp_path, monkeypatch) -> Invoke:
    """Run a command in an empty folder, as a new user would."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> Result:
        result = CliRunner().invoke(app, list(arguments))
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception  # anything but a clean exit is a bug, not an answer
        return result

    return run


@pytest.fixture
def write_folder() -> Callable[..., Path]:
    """Write a folder data set whose masks hold each of some numbers; the layout is told by two patterns."""

    def write(
        root: Path,
        numbers: tuple[int, ...],
        images: str = "{split}/images/{name}.png",
        masks: str = "{split}/masks/{name}.png",
    ) -> Path:
        random = np.random.default_rng(0)
        for split, count in (("train", 4), ("val", 2)):
            for place in range(count):
                stored = random.permutation(np.resize(numbers, 32 * 32)).reshape(32, 32).astype(np.uint16)
                pixels = random.integers(0, 255, (32, 32, 3)).astype(np.uint8)
                for pattern, array in ((images, pixels), (masks, stored)):
                    path = root / pattern.format(split=split, name=f"{split}{place}")
                    path.parent.mkdir(parents=True, exist_ok=True)
                    Image.fromarray(array).save(path)
        return root

    return write
