import io
import sys

from prunekit_cli.showing import progress as module
from prunekit_cli.showing.progress import Progress


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_log_file_gets_a_line_now_and_then_and_the_last_one(capsys):
    clock = Clock()
    with Progress(clock=clock) as progress:
        for done in range(1, 101):
            clock.now = float(done)
            progress.advance("training", done, 100, detail="loss 1.0")
    lines = capsys.readouterr().err.splitlines()
    assert 100 / module.PLAIN_EVERY_S - 2 <= len(lines) <= 100 / module.PLAIN_EVERY_S + 1
    assert lines[-1].startswith("training  100/100  loss 1.0")
    assert lines[0].endswith("1 min 30 s left")  # 90 of 100 steps of a second each


def test_time_left_is_what_the_caller_knows_and_more_than_that_is_said(capsys):
    clock = Clock()
    with Progress(clock=clock) as progress:
        for least in (False, True):
            clock.now += module.PLAIN_EVERY_S
            progress.advance("training", 1, 2, left_s=125, least=least)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].endswith("  2 min 05 s left")
    assert lines[1].endswith("  > 2 min 05 s left")


def test_what_is_short_leaves_no_line_in_a_log(capsys):
    clock = Clock()
    with Progress(clock=clock) as progress:
        progress.stage("Pruning")
        for done in range(5):
            clock.now += 1
            progress.advance("reading", done, 4)
    assert capsys.readouterr().err == "Pruning ...\n"


def test_a_stage_shows_its_time_and_comes_back_when_its_steps_are_done(monkeypatch):
    terminal, clock = Terminal(), Clock()
    monkeypatch.setattr(sys, "stderr", terminal)
    with Progress(repaint=False, clock=clock) as progress:
        progress.stage("Choosing channels")
        clock.now = 75.0
        for done in range(4):
            progress.advance("reading", done, 3)
            progress._live.refresh()
        shown = terminal.getvalue()
        terminal.truncate(0)
        clock.now = 80.0
        progress._live.refresh()
        assert "reading" in shown
        assert "2/3" in shown
        assert "Choosing channels" in terminal.getvalue()
        assert "1 min 20 s" in terminal.getvalue()
        assert "reading" not in terminal.getvalue().rpartition("Choosing")[2]
        progress.advance("Proving", 0, 0)
        progress._live.refresh()
        assert "Proving" in terminal.getvalue()


def test_a_terminal_gets_a_bar_and_the_lines_that_stay(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with Progress(repaint=False) as progress:
        progress.stage("analysing [channels]")
        progress.line("epoch 1/2")
        progress.advance("training", 1, 2, detail="loss [1.0]")
        progress.line("epoch 2/2")
    shown = terminal.getvalue()
    assert "epoch 1/2" in shown
    assert "epoch 2/2" in shown
    assert "loss [1.0]" in shown
