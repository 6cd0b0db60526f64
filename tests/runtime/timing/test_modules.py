"""What a file says of the modules of its nodes, which others may have written."""

import json

import pytest

from prunekit_runtime.timing.modules import read_modules


def test_modules_are_read() -> None:
    assert read_modules(json.dumps({"node_conv2d": "encoder.conv1"})) == {"node_conv2d": "encoder.conv1"}


@pytest.mark.parametrize("text", ["", "no json", "[1, 2]", "{" * 100, "[" * 100_000, "3"])
def test_what_is_none_of_ours_tells_nothing(text: str) -> None:
    assert read_modules(text) == {}
