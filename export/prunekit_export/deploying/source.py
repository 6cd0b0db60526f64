"""The bundle that is deployed: one that is there, or a run's, written anew only when the run or the wishes changed."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from typing import TYPE_CHECKING

from prunekit import __version__
from prunekit.run import RunDirectory, open_run, write_atomically
from prunekit_export.bundling import write_bundle
from prunekit_runtime.bundle import MANIFEST, open_bundle
from prunekit_runtime.errors import PrunekitError
from prunekit_runtime.plainfile import sha256_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from prunekit.progress import Progress
    from prunekit_export.bundling import BundleConfig

DEPLOY = "deploy"
_KEY = "bundle.key"


def bundle_of(
    source: Path,
    config: BundleConfig,
    *,
    root: str | None = None,
    trust_code: bool = False,
    on_stage: Callable[[str], None] | None = None,
    on_progress: Progress | None = None,
) -> tuple[Path, Path]:
    """Return the bundle of a run, or `source` itself where that is one, and the folder for reports of devices.

    Args:
        source: a run or a bundle.
        config: what goes into a run's bundle.
        root: folder of the run's data set, where it is no longer where the run says.
        trust_code: run the python: factory of a run that others made.
        on_stage: told what is being done.
        on_progress: told how far each step is that has parts.

    Raises:
        PrunekitError: it is neither, is damaged, or cannot be bundled.
    """
    if (source / MANIFEST).is_file():
        open_bundle(source)
        return source, source / "reports"
    run = open_run(source)
    folder, key_path = run.path / DEPLOY, run.path / DEPLOY / _KEY
    bundle, key = folder / "bundle", _key_of(run, config)
    if not (_opens(bundle) and key_path.is_file() and key_path.read_text() == key):
        folder.mkdir(exist_ok=True)
        key_path.unlink(missing_ok=True)
        replacing = dataclasses.replace(config, overwrite=True)
        write_bundle(
            run, bundle, replacing, root=root, trust_code=trust_code, on_stage=on_stage, on_progress=on_progress
        )
        write_atomically(key_path, key.encode())
    return bundle, folder


def _key_of(run: RunDirectory, config: BundleConfig) -> str:
    """Return what a bundle depends on: the run's weights and description, the wishes, and this program."""
    files = [sha256_of(path)[0] for path in (run.weights_path, run.model_path, run.recipe_path)]
    wishes = json.dumps(dataclasses.asdict(config), sort_keys=True)
    return hashlib.sha256(" ".join([*files, wishes, __version__]).encode()).hexdigest()


def _opens(bundle: Path) -> bool:
    try:
        open_bundle(bundle)
    except (PrunekitError, OSError):
        return False
    return True
