import errno
import resource
import subprocess
import sys

import numpy as np
import pytest
import torch

from prunekit_cli.showing import output

A_FOLDER, A_LONG_NAME = ".: Is a directory. Name a file.", "File name too long. Choose a shorter name."
TINY = (
    "--model=python:prunekit.models.street:street_net?width=16", "--batch-size=2", "--threads=1",
    *(f"--set=data.{setting}" for setting in ("train_images=4", "val_images=1", "height=64", "width=64")),
)  # fmt: skip


def _too_much_for_numpy() -> None:
    np.empty((1 << 20, 1 << 20, 1 << 10), dtype=np.float32)


def _too_much_for_torch() -> None:
    torch.empty(1 << 50)


def _raise(error: Exception) -> None:
    raise error


@pytest.mark.parametrize(
    ("fail", "told"),
    [
        (lambda: _raise(OSError(errno.ENOSPC, "No space left on device", "run/a")), "run/a: No space left on device."),
        (
            lambda: _raise(OSError(errno.EROFS, "Read-only file system", b"run/\xff")),
            r"run/\xff: Read-only file system",
        ),
        (lambda: _raise(PermissionError(errno.EACCES, "Permission denied", "a")), "a: Permission denied."),
        (lambda: _raise(OSError(errno.EIO, "Input/output error")), "The system refuses: Input/output error."),
        (lambda: _raise(OSError("no number")), "The system refuses: no number."),
        (lambda: open("."), A_FOLDER),  # noqa: SIM115  what fails may be anything
        (lambda: open("a" * 300), A_LONG_NAME),  # noqa: SIM115
        (
            lambda: _raise(OSError("Caught OSError in worker process 0.\nTraceback\nOSError: its own")),
            "OSError: its own",
        ),
        (
            lambda: _raise(RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed.")),
            "was ended: DataLoader",
        ),
        (lambda: _raise(MemoryError()), "memory of this machine"),
        (_too_much_for_numpy, "Unable to allocate"),
        (_too_much_for_torch, "you tried to allocate"),
    ],
)
def test_what_the_system_refuses_is_one_sentence(invoke, monkeypatch, fail, told):
    monkeypatch.setattr(output, "result", lambda _: fail())
    result = invoke("recipe")
    assert result.exit_code == (
        2 if told in (A_FOLDER, A_LONG_NAME) else 1  # a wrong path; the others just fail
    )
    assert told in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_bug_of_ours_keeps_its_traceback_and_its_cause(invoke, monkeypatch):
    def fail(_: str) -> None:
        raise RuntimeError("ours") from KeyError("cause")

    monkeypatch.setattr(output, "result", fail)
    with pytest.raises(RuntimeError, match="ours") as caught:
        invoke("recipe")
    assert isinstance(caught.value.__cause__, KeyError)


def test_a_full_disk_ends_training_in_one_sentence_and_loses_nothing(invoke):
    invoke("train", "--epochs=1", "--out=whole", *TINY)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))  # Python ignores the signal: writes fail
    try:
        result = invoke("train", "--epochs=1", "--out=run", *TINY)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert result.exit_code == 1
    assert "run/state.safetensors: File too large. Free some space" in result.stderr
    assert invoke("train", "--resume=run").exit_code == 0


@pytest.mark.parametrize("command", [["recipe"], ["prune", "--list-criteria"]])
def test_output_that_cannot_be_written(command):
    code = f"from prunekit_cli.main import app; app({command})"
    environment = {"PYTHONPATH": ":".join(sys.path), "OMP_NUM_THREADS": "1"}

    with open("/dev/full", "w") as full:
        done = subprocess.run([sys.executable, "-c", code], stdout=full, stderr=subprocess.PIPE, env=environment)
    assert done.returncode == 1
    assert done.stderr.startswith(b"Error: standard output: No space left on device.")
    assert done.stderr.count(b"\n") == 1

    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()  # a reader that has seen enough, as head
    with process:
        assert process.stderr.read() == b""
    assert process.returncode == 141


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
def test_streams_that_the_shell_closed(closed):
    """Python has none for them."""
    command = f'"{sys.executable}" -c "from prunekit_cli.main import main; main()" recipe {closed}'
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
