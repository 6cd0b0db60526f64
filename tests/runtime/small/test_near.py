import pytest
from hypothesis import given
from hypothesis import strategies as st

from prunekit_runtime.near import did_you_mean, nearest

NAMES = ["train", "import", "prune", "export", "inspect", "Unet", "UnetPlusPlus", "DeepLabV3Plus", "ce", "l1", "l2"]


@pytest.mark.parametrize(
    ("written", "meant"),
    [("trian", "train"), ("unet", "Unet"), ("DEEPLABV3PLUS", "DeepLabV3Plus"), ("deeplabv3+", "DeepLabV3Plus"),
     ("exprt", "export"), ("zzzzzz", None), ("", None), ("cd", "ce")],
)  # fmt: skip
def test_the_nearest_name(written, meant):
    assert nearest(written, NAMES) == meant


@given(st.text(max_size=300), st.lists(st.text(max_size=40), max_size=20))
def test_any_text_has_a_known_name_or_none(written, known):
    found = nearest(written, known)
    assert found is None or found in known


@given(st.sampled_from(NAMES), st.data())
def test_one_letter_left_out_is_found(name, data):
    if len(name) < 5:
        return
    place = data.draw(st.integers(0, len(name) - 1))
    assert nearest(name[:place] + name[place + 1 :], NAMES) == name


def test_the_end_of_a_sentence():
    assert did_you_mean("Unett", NAMES, "smp:") == " Did you mean smp:Unet?"
    assert did_you_mean("zzzzzz", NAMES) == ""
