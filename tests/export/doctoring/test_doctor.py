"""`prunekit doctor`: what works is said to, what is broken does not break it, the exit code is about the core."""

import json

import pytest
from typer.testing import CliRunner

from prunekit_cli.main import app
from prunekit_export.doctoring import examine, examining
from prunekit_export.doctoring.trials import TRIALS

pytest.importorskip("onnxruntime")


def finding(found, subject: str):
    return next(each for each in found.findings if each.subject == subject)


def doing(found, words: str):
    return next(each for each in found.doings if words in each.name)


def put(monkeypatch: pytest.MonkeyPatch, subject: str, trial) -> None:
    """Let the trial of a subject be another one."""
    distribution, _, remedy = TRIALS[subject]
    monkeypatch.setitem(TRIALS, subject, (distribution, trial, remedy))


def test_what_the_tests_run_with_works():
    found = examine()
    assert found.healthy
    for subject in ("Python", "torch", "torchvision", "onnx", "ONNX Runtime", "matplotlib"):
        assert finding(found, subject).state == "ok", finding(found, subject)
    assert doing(found, "export, bundle").works


@pytest.mark.parametrize(
    ("subject", "words"), [("torch", "train, import"), ("onnx", "export, bundle"), ("torchvision", "train, import")]
)
@pytest.mark.parametrize("error", [ImportError("no symbol"), RuntimeError("a\nlong\x1b[2J story"), OSError("lib.so")])
def test_a_broken_package_of_the_core_is_named_and_does_not_break_it(monkeypatch, subject, words, error):
    def broken() -> str:
        raise error

    put(monkeypatch, subject, broken)
    found = examine()
    assert finding(found, subject).state == "missing"
    assert "installed, and does not work" in finding(found, subject).found
    assert "\x1b" not in finding(found, subject).found
    assert doing(found, words).lacks == (subject,)
    assert not found.healthy


def test_what_is_missing_and_optional_is_a_note(monkeypatch):
    def missing() -> str:
        raise ModuleNotFoundError("No module named 'cv2'")

    put(monkeypatch, "OpenCV", missing)
    found = examine()
    assert finding(found, "OpenCV").state == "note"
    assert doing(found, "videos").lacks == ("OpenCV",)
    assert found.healthy


def test_a_version_out_of_bounds_is_named(monkeypatch):
    monkeypatch.setattr(examining, "_version", lambda name: "1.2.0" if name == "onnx" else "99.0")
    monkeypatch.setattr(examining, "_bounds", lambda: {"onnx": ">=1.18", "torch": ">=2.11,<100"})
    found = examine()
    assert ">=1.18 is needed" in finding(found, "onnx").found
    assert finding(found, "torch").state == "ok"
    assert not found.healthy


@pytest.mark.parametrize(
    ("version", "bounds", "fits"),
    [
        ("2.11.0+cu130", ">=2.11", True),
        ("2.9", ">=2.11", False),
        ("12.0", ">=10.3,<12", False),
        ("11.4.1", ">=10.3,<12", True),
        ("3.11.7", ">=3.11", True),
        ("unknown", ">=3.11", True),
        ("5", "", True),
    ],
)
def test_bounds_are_numbers_and_not_text(version, bounds, fits):
    assert (examining._within("x", version, version, bounds, "").state == "ok") == fits


def test_the_command_shows_it_and_its_exit_code_is_about_the_core(monkeypatch):
    result = CliRunner().invoke(app, ["doctor"])
    assert result.exit_code == 0, result.output
    assert "What works here" in result.output
    values = json.loads(CliRunner().invoke(app, ["doctor", "--json"]).stdout)
    assert values["healthy"] is True
    assert {each["subject"] for each in values["findings"]} >= {*TRIALS, "Python", "TensorRT", "GPU"}

    def broken() -> str:
        raise ImportError("gone")

    put(monkeypatch, "torch", broken)
    result = CliRunner().invoke(app, ["doctor"])
    assert result.exit_code == 1
    assert "pip install torch torchvision" in " ".join(result.output.split())
