import itertools

import pytest

from prunekit_cli.showing import output
from prunekit_cli.showing.output import Setting, Table
from prunekit_cli.showing.progress import Progress

EVIL = "\x1b[2J\x1b]0;owned\x07\x9b\u202e\u2028\udcff name"
SHOWN = r"\x1b[2J\x1b]0;owned\x07\x9b\u202e\u2028\xff name"

WAYS = {
    "result": lambda: output.result(EVIL),
    "table": lambda: output.show(Table(EVIL, (EVIL,), [(EVIL,)])),
    "talk": lambda: output.say(EVIL),
    "error": lambda: output.fail(EVIL),
    "settings": lambda: output.settings(EVIL, [Setting(EVIL, EVIL, EVIL)]),
    "stage": lambda: Progress().stage(EVIL),
    "progress": lambda: Progress(clock=itertools.count(0, 100).__next__).advance(EVIL, 1, 1, detail=EVIL),
    "settings above a bar": lambda: Progress().settings(EVIL, [Setting(EVIL, EVIL, EVIL)]),
    "line": lambda: Progress().line(EVIL),
}


@pytest.mark.parametrize("way", WAYS)
def test_control_characters_in_names_never_reach_the_terminal(capsys, way):
    WAYS[way]()
    shown = "".join(capsys.readouterr())
    assert SHOWN in shown
    assert not set(shown) & set("\x1b\x07\x9b\u202e\u2028\udcff")


def test_a_bar_shows_them_harmless_too(capsys, monkeypatch):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    with Progress() as progress:
        progress.stage(EVIL)
        progress.advance(EVIL, 1, 3, detail=EVIL)
        progress.line(EVIL)
    shown = capsys.readouterr().err
    assert r"\x1b[2J" in shown
    assert "\x1b]0;" not in shown
    assert "\x07" not in shown
    assert "\u202e" not in shown


def test_what_people_write_stays_as_it_is(capsys):
    output.result("Straße\n道路\t👩‍👩‍👧 é")
    assert capsys.readouterr().out == "Straße\n道路\t👩‍👩‍👧 é\n"


def test_a_file_name_in_an_error_and_in_an_error_of_usage(invoke, tmp_path):
    for folder in ("images", "masks"):
        (tmp_path / "data" / folder).mkdir(parents=True)
    (tmp_path / "data/images/\x1b[2J.png").touch()
    (tmp_path / "data/classes.txt").write_text("a")
    for result in (invoke("train", "--data", "folder", "--root", "data"), invoke("eval", "a.onnx", "\x1b[2J.onnx")):
        assert result.exit_code > 0
        assert "\x1b" not in result.output
        assert r"\x1b[2J" in result.output
