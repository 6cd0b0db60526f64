"""What `progress=True` writes: a count on its own line in a terminal, a line a step elsewhere."""

import io

from prunekit import ProgressLine
from prunekit.progress import counted, told
from prunekit.workflows.library.progress import told_by


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def steps(file: io.StringIO) -> str:
    tell = ProgressLine(file)
    tell("Analysing", 0, 0)
    with told(tell):
        assert list(counted("ab", "Reading", 2)) == ["a", "b"]
        next(counted("ab", "Reading", 2))
    tell("Proving", 0, 0)
    return file.getvalue()


def test_a_terminal_counts_on_one_line_and_a_broken_off_step_keeps_its_own() -> None:
    text = "\rAnalysing\n\rReading 0/2\rReading 1/2\rReading 2/2\n\rReading 0/2\nProving\n"
    assert steps(Terminal()) == text


def test_a_file_gets_a_line_a_step() -> None:
    assert steps(io.StringIO()) == "Analysing\nReading\nReading\nProving\n"


def test_nobody_is_told_unless_asked(capsys) -> None:
    told_by(False)("Analysing", 0, 0)
    assert capsys.readouterr() == ("", "")
