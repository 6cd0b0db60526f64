"""Names in pictures never become boxes, nor more than one line."""

import unicodedata

import pytest

from prunekit.pictures import lettering as module
from prunekit.pictures.lettering import lettering


@pytest.fixture
def no_system_fonts(monkeypatch):
    monkeypatch.setattr(module, "_SYSTEM_FONTS", ())


def test_plain_names_take_pillow_s_own_font():
    drawn = lettering("traffic light 3", 18)
    assert (drawn.text, drawn.whole) == ("traffic light 3", True)
    assert drawn.font.getname()[0] == "Aileron"


@pytest.mark.usefixtures("no_system_fonts")
@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("道路", r"\u9053\u8def"),
        ("trottoir mouillé", r"trottoir mouill\xe9"),
        ("дорога a", r"\u0434\u043e\u0440\u043e\u0433\u0430 a"),
        ("car 🚗", r"car \U0001f697"),
    ],
)
def test_letters_that_no_font_has_are_escapes(name, text):
    drawn = lettering(name, 18)
    assert (drawn.text, drawn.whole) == (text, False)


@pytest.mark.usefixtures("no_system_fonts")
def test_both_unicode_forms_read_the_same():
    assert lettering(unicodedata.normalize("NFD", "é"), 18).text == lettering("é", 18).text


def test_a_name_is_drawn_whole_or_in_letters_that_pillow_has():
    for name in ("Straße", "дорога", "道路", "طريق", "सड़क"):
        drawn = lettering(name, 18)
        assert (drawn.text == name) if drawn.whole else ("\\u" in drawn.text)


def test_a_name_is_one_line_without_control_characters():
    assert lettering("a\nb\x1b\udce9", 18).text == r"a\x0ab\x1b\xe9"
