from collections.abc import Callable

import pytest
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
