import contextlib
import json
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prunekit.errors import ModelError
from prunekit.models.spec import MAX_SPEC_CHARACTERS, parse_spec

KEYS = st.text(string.ascii_lowercase + "_", min_size=1, max_size=8)
SCALARS = st.none() | st.booleans() | st.integers(-999, 999) | st.floats(allow_nan=False, allow_infinity=False)
VALUES = SCALARS | st.lists(SCALARS, max_size=4)


@given(st.dictionaries(KEYS, VALUES, max_size=4))
def test_json_values_come_back(args):
    text = "&".join(f"{key}={json.dumps(value)}" for key, value in args.items())
    spec = parse_spec(f"smp:Unet?{text}" if text else "smp:Unet")
    assert (spec.kind, spec.name, dict(spec.args)) == ("smp", "Unet", args)


def test_bare_words_are_text():
    spec = parse_spec("smp:Unet?encoder=resnet18&decoder_channels=[64,32,16,16,8]")
    assert dict(spec.args) == {"encoder": "resnet18", "decoder_channels": [64, 32, 16, 16, 8]}


def test_a_python_factory_keeps_its_colon():
    assert parse_spec("python:a.b:make?width=8").name == "a.b:make"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("Unet", "kind:name"),
        ("onnx:model", "kind:name"),
        ("smp:", "kind:name"),
        ("smp:Unet?encoder", "key=value"),
        ("smp:Unet?a=1&a=2", "twice"),
        ("smp:Unet?a=True", "write true"),
        ("smp:Unet?a=NaN", "no JSON"),
        ("smp:Unet?a=[1,", "no JSON"),
        ('smp:Unet?a={"b":1}', "mapping"),
        ("smp:Unet?a=" + "1" * MAX_SPEC_CHARACTERS, "kind:name"),
        ("smp:Unet?a=" + "[" * 4000, "no JSON"),
    ],
)
def test_refusals_say_what_to_write(text, says):
    with pytest.raises(ModelError, match=says):
        parse_spec(text)


@given(st.text(max_size=60))
def test_any_text_is_parsed_or_refused(text):
    with contextlib.suppress(ModelError):
        parse_spec(text)
