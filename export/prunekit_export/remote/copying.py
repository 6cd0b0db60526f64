"""Copy a folder to a device, by rsync where both have it and by tar where not; it takes its name when it is whole."""

from __future__ import annotations

import importlib.resources
import json
import shlex
import shutil
import tarfile
import tempfile
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any, cast

from prunekit_export.errors import DeviceError
from prunekit_runtime.jsonfile import parse_json

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from prunekit_export.remote.session import Completed, Session

    OnCopy = Callable[[int, int], None]

_PERMISSIONS = 0o644


@dataclass(frozen=True)
class Target:
    """Where a folder goes on a device."""

    root: str
    """From the home folder, or absolute."""
    name: str
    python: str = "python3"

    @property
    def path(self) -> str:
        """The folder under its final name."""
        return f"{self.root}/{self.name}"

    @property
    def part(self) -> str:
        """The hidden folder that is copied into."""
        return f"{self.root}/.{self.name}.part"


def copy_folder(
    session: Session, folder: Path, files: Mapping[str, str], target: Target, on_copy: OnCopy | None = None
) -> None:
    """Copy files that are not there yet, compare all hashes there, and give the folder its final name.

    What an earlier copy left is used. A folder that is there already is replaced in one step; what was built in it and
    its reports stay.

    Args:
        session: with the device.
        folder: here.
        files: sha256 by path in the folder.
        target: where to.
        on_copy: told (bytes sent, bytes to send).

    Raises:
        DeviceError: the device cannot be reached, has no Python, or refuses to write.
    """
    wanted = json.dumps(dict(files)).encode()
    there = cast("dict[str, Any]", parse_json(_agent(session, target, "begin", wanted).output))
    if there.get("is_there") is True:
        return
    part = cast("dict[str, str]", there.get("part") or {})
    missing = [path for path, sha256 in files.items() if part.get(path) != sha256]
    if missing:
        send = _by_rsync if there.get("rsync") is True and shutil.which("rsync") else _by_tar
        send(session, folder, missing, target, on_copy or (lambda _sent, _all: None))
    _agent(session, target, "publish", wanted)


def _agent(session: Session, target: Target, step: str, wanted: bytes) -> Completed:
    def feed(stream: IO[bytes]) -> None:
        stream.write(wanted)

    text = importlib.resources.files("prunekit_export.remote").joinpath("agent.py").read_text(encoding="utf-8")
    return checked(session, session.run([target.python, "-c", text, step, target.root, target.name], feed=feed))


def checked(session: Session, done: Completed) -> Completed:
    """Return what was done.

    Raises:
        DeviceError: it ended with another code than 0.
    """
    if done.code != 0:
        said = done.complaint.rstrip(".") or f"exit code {done.code}"
        raise DeviceError(f"{session.host.target} says: {said}. Free space, or name another folder: --remote-dir DIR")
    return done


def _by_tar(session: Session, folder: Path, paths: Sequence[str], target: Target, on_copy: OnCopy) -> None:
    total = sum((folder / path).stat().st_size for path in paths)

    def feed(stream: IO[bytes]) -> None:
        sent = 0
        with tarfile.open(fileobj=stream, mode="w|", format=tarfile.USTAR_FORMAT) as archive:
            for path in paths:
                on_copy(sent, total)
                with (folder / path).open("rb") as file:
                    info = archive.gettarinfo(arcname=path, fileobj=file)
                    info.uid = info.gid = 0
                    info.uname = info.gname = ""
                    info.mode = _PERMISSIONS
                    archive.addfile(info, file)
                    sent += info.size

    checked(session, session.run(["tar", "-xf", "-", "-C", target.part, "--no-same-owner"], feed=feed))
    on_copy(total, total)


def _by_rsync(session: Session, folder: Path, paths: Sequence[str], target: Target, on_copy: OnCopy) -> None:
    total = sum((folder / path).stat().st_size for path in paths)
    on_copy(0, total)
    with tempfile.NamedTemporaryFile("w", suffix=".files") as listed:
        listed.write("\n".join(paths))
        listed.flush()
        destination = f"{session.host.target}:{target.part}/"
        options = ["--checksum", "--partial", "--inplace", "--no-links", "-s", f"--files-from={listed.name}"]
        done = session.local(["rsync", *options, "-e", shlex.join(session.host.ssh), f"{folder}/", destination])
    if done.code != 0:
        raise DeviceError(f"{session.host.target}: rsync failed: {done.complaint.rstrip('.')}. Repeat the command.")
    on_copy(total, total)
