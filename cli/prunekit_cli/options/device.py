"""A device that measures: what was typed of it, and the meter on it."""

import shlex
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from prunekit_cli.options.common import OptionError

if TYPE_CHECKING:
    from prunekit_export.latency import LatencyMeter
    from prunekit_export.remote import Host


@dataclass(frozen=True)
class On:
    """The device of --on."""

    host: "Host"
    python: str
    typed: str
    """The options that name it, for the end of a command."""

    @classmethod
    def given(cls, host: str | None, python: str | None, ssh_config: Path | None) -> Self | None:
        """Return the device that was asked for, if any.

        Raises:
            OptionError: --on-python or --ssh-config is given without --on, or there is no such file.
            ExportUsageError: the name is no host.
        """
        values = {"--on": host, "--on-python": python, "--ssh-config": ssh_config}
        others = [flag for flag, value in values.items() if value is not None and flag != "--on"]
        if host is None:
            if others:
                raise OptionError(f"{', '.join(others)} says how to reach the device of --on, and there is none.")
            return None
        if ssh_config is not None and not ssh_config.is_file():
            raise OptionError(f"--ssh-config {ssh_config} is no file. Name the configuration that ssh is to read.")
        from prunekit_export.remote import Host

        typed = "".join(f" {flag} {shlex.quote(str(value))}" for flag, value in values.items() if value is not None)
        return cls(Host(host, ssh_config.resolve() if ssh_config else None), python or "python3", typed)

    def meter(self, runtime: Any, **how: Any) -> AbstractContextManager["LatencyMeter"]:
        """Return a meter there, to be entered."""
        from prunekit_export.deploying import device_meter

        return device_meter(self.host, runtime, python=self.python, **how)
