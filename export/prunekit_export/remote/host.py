"""A device's name as ssh takes it, from the command line."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from prunekit_export.errors import ExportUsageError

if TYPE_CHECKING:
    from pathlib import Path

# No name begins with "-", which ssh would take for an option, and none holds what a shell or ssh gives a meaning to.
_HOST = re.compile(r"(?:[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}@)?[A-Za-z0-9_\[][A-Za-z0-9_.:%\[\]-]{0,253}")
_UNSAFE = re.compile(r"[^A-Za-z0-9_.-]")
CONNECT_TIMEOUT_S = 20
_ALIVE_INTERVAL_S, _ALIVE_COUNT = 15, 4  # a connection that is dead for a minute ends


@dataclass(frozen=True)
class Host:
    """A device: what ssh is told, [user@]name, and the user's own configuration of it."""

    target: str
    config: Path | None = None
    """In the place of ~/.ssh/config."""

    def __post_init__(self) -> None:
        if not _HOST.fullmatch(self.target):
            raise ExportUsageError(
                f"{self.target!r} is no host. Write [user@]name as for ssh; ports and jump hosts belong into "
                "~/.ssh/config."
            )

    @property
    def folder(self) -> str:
        """Return a name for a folder of this device's reports."""
        name = _UNSAFE.sub("_", self.target)
        return name if name.strip(".") else "_"

    @property
    def ssh(self) -> list[str]:
        """Return the command that connects: the user's keys, agent and jump hosts, and no question to anybody."""
        options = {
            "BatchMode": "yes",
            "ConnectTimeout": str(CONNECT_TIMEOUT_S),
            "ServerAliveInterval": str(_ALIVE_INTERVAL_S),
            "ServerAliveCountMax": str(_ALIVE_COUNT),
            "ClearAllForwardings": "yes",
        }
        own = [] if self.config is None else ["-F", str(self.config)]
        return ["ssh", *own, "-T", *(part for key, value in options.items() for part in ("-o", f"{key}={value}"))]
