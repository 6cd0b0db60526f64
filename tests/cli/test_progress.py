import io
import sys

from prunekit_cli import progress as module
from prunekit_cli.progress import Progress


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
    assert lines[0].endswith("1 min 29 s left")  # 89 of 100 steps of a second each


def test_time_left_is_what_the_caller_knows(capsys):
    with Progress() as progress:
        progress.advance("training", 1, 1, left_s=125)
    assert "2 min 05 s left" in capsys.readouterr().err


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
