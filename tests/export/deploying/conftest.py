"""A real sshd on loopback, as this user, with a configuration, keys and a home folder of its own."""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path

import pytest

from prunekit_export.remote import Host, Session

SSHD = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")


@dataclass
class Device:
    """A device that is this machine: hosts of its ssh configuration, and the folder that is its home."""

    config: Path
    home: Path
    daemon: subprocess.Popen[bytes]
    python: str = sys.executable

    def host(self, name: str = "orin") -> Host:
        """Return a host by a name of the configuration: orin, nano, or one that refuses: locked, nowhere."""
        return Host(name, self.config)

    def session(self, name: str = "orin") -> Session:
        """Return a session with it."""
        return Session(self.host(name))


@pytest.fixture(scope="session")
def device(tmp_path_factory: pytest.TempPathFactory) -> Generator[Device]:
    """Start sshd; commands begin in the device's home, which is not this user's."""
    if SSHD is None or shutil.which("ssh") is None or shutil.which("ssh-keygen") is None:
        pytest.skip("no sshd and ssh here (Debian: openssh-server, openssh-client)")
    folder = tmp_path_factory.mktemp("sshd")
    home = folder / "home"
    for name in ("host", "user", "second", "stranger"):
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)], check=True, capture_output=True
        )
    (folder / "authorized").write_text(_at_home(folder, "user", home) + _at_home(folder, "second", folder / "nano"))
    port = _free_port()
    (folder / "sshd_config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {folder}/host\nAuthorizedKeysFile {folder}/authorized\n"
        f"PidFile none\nStrictModes no\nUsePAM no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n"
        f"PermitRootLogin yes\nMaxStartups 100\nMaxSessions 100\n"
    )
    (folder / "ssh_config").write_text(
        f"Host orin\n  IdentityFile {folder}/user\nHost nano\n  IdentityFile {folder}/second\n"
        f"Host locked\n  IdentityFile {folder}/stranger\n"
        f"Host nowhere\n  Port {_free_port()}\n"
        f"Host *\n  HostName 127.0.0.1\n  Port {port}\n  IdentitiesOnly yes\n  IdentityAgent none\n"
        f"  StrictHostKeyChecking no\n  UserKnownHostsFile /dev/null\n  LogLevel ERROR\n"
    )
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)  # where root's sshd separates privileges
    assert SSHD is not None
    daemon = subprocess.Popen([SSHD, "-D", "-e", "-f", str(folder / "sshd_config")], stderr=subprocess.PIPE)
    found = Device(folder / "ssh_config", home, daemon)
    try:
        _wait_until(lambda: _accepts(port), daemon)
        yield found
    finally:
        daemon.terminate()
        daemon.communicate()


def _at_home(folder: Path, key: str, home: Path) -> str:
    """Return the line of authorized_keys by which whoever holds a key works in a home of their own."""
    home.mkdir()
    shell = folder / f"shell-{key}"
    shell.write_text(f'#!/bin/sh\ncd {home} || exit 99\nexport HOME={home}\nexec sh -c "$SSH_ORIGINAL_COMMAND"\n')
    shell.chmod(0o755)
    return f'command="{shell}" {(folder / f"{key}.pub").read_text()}'


def _free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


def _accepts(port: int) -> bool:
    with socket.socket() as trying:
        return trying.connect_ex(("127.0.0.1", port)) == 0


def _wait_until(is_so: Callable[[], bool], daemon: subprocess.Popen[bytes]) -> None:
    for _ in range(200):
        if is_so():
            return
        if daemon.poll() is not None:
            said = daemon.stderr.read().decode(errors="replace") if daemon.stderr else ""
            pytest.skip(f"sshd does not start here: {said.strip()[:300]}")
        time.sleep(0.05)
    pytest.skip("sshd does not answer here")
