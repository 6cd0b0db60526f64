"""`prunekit deploy` without the command line: one bundle, several devices side by side."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from prunekit_export.deploying.device import DeployConfig, Job
from prunekit_export.errors import ExportUsageError
from prunekit_export.remote import Session
from prunekit_runtime.bundle import MANIFEST, open_bundle, read_manifest
from prunekit_runtime.plainfile import sha256_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from prunekit_export.deploying.outcome import DeviceOutcome
    from prunekit_export.remote import Host

MAX_HOSTS = 64


def deploy(
    bundle: Path,
    hosts: Sequence[Host],
    config: DeployConfig,
    reports: Path,
    *,
    on_step: Callable[[str, str, str], None] | None = None,
    on_end: Callable[[DeviceOutcome], None] | None = None,
) -> list[DeviceOutcome]:
    """Copy a bundle to devices, build, check and measure there, and bring the reports back.

    A device that fails does not stop the others. What an interrupted deployment has copied or built is used again.

    Args:
        bundle: its folder here.
        hosts: the devices.
        config: what is done there.
        reports: folder here; each device gets one in it.
        on_step: told (device, step, what is being done); by several threads.
        on_end: told of each device that is done; by several threads.

    Returns:
        what became of each device, in the order of `hosts`.

    Raises:
        PrunekitError: the bundle is damaged, or a device is named twice.
    """
    opened = open_bundle(bundle)
    if not 1 <= len(hosts) <= MAX_HOSTS or len({host.folder for host in hosts}) != len(hosts):
        raise ExportUsageError(f"1 to {MAX_HOSTS} devices are deployed to, each named once. Name them once.")
    files = {path: entry.sha256 for path, entry in read_manifest(bundle).files.items()}
    files[MANIFEST] = sha256_of(bundle / MANIFEST)[0]
    sessions = [Session(host) for host in hosts]

    def run(session: Session) -> DeviceOutcome:
        name = session.host.target
        tell = on_step or (lambda _host, _step, _text: None)
        folder = reports / session.host.folder
        job = Job(session, bundle, opened.name, files, config, folder, lambda step, text: tell(name, step, text))
        outcome = job.run()
        if on_end is not None:
            on_end(outcome)
        return outcome

    with ThreadPoolExecutor(len(sessions)) as pool:
        waiting = [pool.submit(run, session) for session in sessions]
        try:
            return [future.result() for future in waiting]
        finally:  # Ctrl-C and the like: what runs on the devices ends with the connections
            for session in sessions:
                session.end()
