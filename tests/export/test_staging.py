"""Exports take their names when they are proved: killed, failed and simultaneous ones."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from prunekit_export.errors import ExportError
from prunekit_export.running import ProfileConfig, open_runner, profile_models
from prunekit_export.staging import UNPROVED, free_folder, refuse_unproved, staged

FILES = ("model.onnx", "model.fp16.onnx", "model.fp16.plan", "model.fp16.plan.json", "parity.json", "classes.json")

KILLED = """
import os, signal, sys
from pathlib import Path
from prunekit_export.staging import staged

left = int(sys.argv[2])

def step(*_):
    global left
    left -= 1
    if left < 0:
        os.kill(os.getpid(), signal.SIGKILL)

rename = Path.replace
Path.replace = lambda self, target: (step(), rename(self, target))[1]
with staged(Path(sys.argv[1])) as stage:
    for name in sys.argv[3:]:
        step()
        (stage.folder / name).write_text(name)
    stage.publish()
    step()
"""


def write(out_dir: Path, content: str = "new") -> None:
    with staged(out_dir) as stage:
        for name in FILES:
            (stage.folder / name).write_text(content)
            assert not (out_dir / name).exists()
        stage.publish()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("steps", range(0, 2 * len(FILES) + 1, 2))
def test_killed_at_any_instant_nothing_is_taken_for_whole(steps: int, tmp_path: Path) -> None:
    out = tmp_path / "export"
    done = subprocess.run([sys.executable, "-c", KILLED, str(out), str(steps), *FILES], check=False)
    assert done.returncode == -signal.SIGKILL
    if (out / "model.onnx").exists():
        assert set(FILES) <= set(names(out)), "model.onnx comes last"
    for path in out.rglob("model*"):
        with pytest.raises(ExportError, match="not finished"):
            open_runner(path)
    assert free_folder(out) == out, "what is left blocks nothing"
    write(out)
    assert names(out) == sorted(FILES)
    assert {(out / name).read_text() for name in FILES} == {"new"}


def interrupted(out_dir: Path) -> None:
    with staged(out_dir) as stage:
        (stage.folder / "model.onnx").write_text("half")
        raise KeyboardInterrupt


def test_what_fails_leaves_nothing(tmp_path: Path) -> None:
    made = tmp_path / "made"
    made.mkdir()
    for out in (tmp_path / "deep" / "export", made):
        with pytest.raises(KeyboardInterrupt):
            interrupted(out)
    assert not (tmp_path / "deep" / "export").exists()
    assert not list(made.iterdir()), "a folder of the user's stays, empty"


def test_two_exports_never_meet(tmp_path: Path) -> None:
    out = tmp_path / "export"
    with staged(out) as stage:
        assert free_folder(out) == tmp_path / "export-2"
        with pytest.raises(ExportError, match="Another export writes to"), staged(out):
            pass
        (stage.folder / "model.onnx").write_text("first")
        stage.publish()
        with pytest.raises(ExportError, match="not finished"):
            refuse_unproved(out / "model.onnx")
    refuse_unproved(out / "model.onnx")
    assert free_folder(out) == tmp_path / "export-2"


@pytest.mark.parametrize("there", [True, False])
def test_a_link_in_a_run_leads_no_export_elsewhere(there: bool, tmp_path: Path) -> None:
    out, elsewhere = tmp_path / "export", tmp_path / "elsewhere"
    if there:
        elsewhere.mkdir()
    out.symlink_to(elsewhere)
    assert free_folder(out) == tmp_path / "export-2"


@pytest.mark.parametrize("kind", ["file", "folder with a file", "link in the place of the hidden folder"])
def test_nothing_of_others_is_touched(kind: str, tmp_path: Path) -> None:
    out, elsewhere = tmp_path / "export", tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "model.onnx").write_text("theirs")
    if kind == "file":
        out.write_text("theirs")
    else:
        out.mkdir()
        if kind == "folder with a file":
            (out / "model.onnx").write_text("theirs")
        else:
            (out / UNPROVED).symlink_to(elsewhere)
    with pytest.raises(ExportError, match="is not empty"), staged(out):
        pass
    assert (elsewhere / "model.onnx").read_text() == "theirs"
    assert free_folder(out) == tmp_path / "export-2"
    if kind == "folder with a file":
        assert (out / "model.onnx").read_text() == "theirs"


def test_profile_refuses_what_is_not_proved(tmp_path: Path) -> None:
    with staged(tmp_path / "export") as stage:
        (stage.folder / "model.onnx").write_text("half")
        with pytest.raises(ExportError, match="prunekit export --out"):
            profile_models([stage.folder / "model.onnx"], ProfileConfig())
