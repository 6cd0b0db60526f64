"""Open a bundle's folder: read its manifest, and hold every file to it."""

import os
from collections.abc import Iterator
from pathlib import Path

from prunekit_runtime.bundle.layout import BUILT, REPORTS, Bundle
from prunekit_runtime.bundle.manifest import MAX_FILES, MAX_MANIFEST_BYTES, FileEntry, Manifest
from prunekit_runtime.bundle.one_file import refuse_external_data
from prunekit_runtime.classes import FILE as CLASSES
from prunekit_runtime.classes import read_classes
from prunekit_runtime.errors import BundleError, BundleUsageError
from prunekit_runtime.jsonfile import parse_json
from prunekit_runtime.near import near_path
from prunekit_runtime.plainfile import open_plain, sha256_of
from prunekit_runtime.preprocessing import read_contract

MANIFEST = "bundle.json"
CONTRACT = "preprocessing.json"
_MADE_HERE = (BUILT, REPORTS)
_CACHE = "__pycache__"  # Python's own, beside the runtime's files
_REMEDY = "Copy the bundle again, or write it again: prunekit bundle"


def open_bundle(folder: Path) -> Bundle:
    """Open a bundle, hashing every file.

    Raises:
        BundleUsageError: there is no bundle.
        BundleError: its manifest is damaged, a file is missing, changed or not listed, or a model keeps weights
            in another file.
        ContractError: the contract or the classes cannot be used.
    """
    manifest = read_manifest(folder)
    _check_files(folder, manifest)
    for entry in manifest.models:
        _check_model(entry.path(folder))
    classes = read_classes(folder / CLASSES)
    return Bundle(
        folder=folder,
        name=manifest.name,
        written_by=manifest.written_by,
        lineage=manifest.lineage,
        models=manifest.models,
        golden=manifest.golden,
        contract=read_contract(folder / CONTRACT),
        classes=classes,
    )


def read_manifest(folder: Path) -> Manifest:
    """Read bundle.json.

    Raises:
        BundleUsageError: there is none.
        BundleError: it is damaged.
    """
    path = folder / MANIFEST
    try:
        with open_plain(path) as file:
            content = file.read(MAX_MANIFEST_BYTES + 1)
        if len(content) > MAX_MANIFEST_BYTES:
            raise ValueError(f"it is larger than {MAX_MANIFEST_BYTES} bytes")
        return Manifest.from_json(parse_json(content))
    except FileNotFoundError:
        near = near_path(folder) if not folder.is_dir() else ""
        raise BundleUsageError(
            f"{folder if str(folder) != '.' else 'This folder'} holds no bundle: there is no {MANIFEST}.{near} "
            "Name its folder: --bundle DIR"
        ) from None
    except OSError as error:
        raise BundleError(f"{path} cannot be read: {error.strerror}. {_REMEDY}") from error
    except ValueError as error:
        raise BundleError(f"{path} is damaged: {error}. {_REMEDY}") from error


def _check_files(folder: Path, manifest: Manifest) -> None:
    """Refuse the first file that is missing, changed or not listed.

    Raises:
        BundleError: one is.
    """
    for needed in (CONTRACT, CLASSES):
        if needed not in manifest.files:
            raise BundleError(f"{folder / MANIFEST} does not list {needed}. {_REMEDY}")
    for path in _found(folder):
        if path not in manifest.files:
            raise BundleError(f"{folder / path} does not belong to the bundle. Remove it.")
    for path, entry in manifest.files.items():
        _check_file(folder / path, entry)


def _check_file(path: Path, entry: FileEntry) -> None:
    try:
        if path.lstat().st_size == entry.size_bytes and sha256_of(path)[0] == entry.sha256:
            return
    except FileNotFoundError:
        raise BundleError(f"{path} is missing. {_REMEDY}") from None
    except OSError as error:
        raise BundleError(f"{path} cannot be read: {error.strerror}. {_REMEDY}") from error
    raise BundleError(f"{path} was changed after the bundle was written. {_REMEDY}")


def _check_model(path: Path) -> None:
    try:
        refuse_external_data(path)
    except OSError as error:
        raise BundleError(f"{path} cannot be read: {error.strerror}. {_REMEDY}") from error


def _found(folder: Path) -> Iterator[str]:
    """Yield every file of the bundle but the manifest and what is made on the device, from the folder.

    Raises:
        BundleError: there is a link, or there are too many files.
    """
    count = 0
    for place, folders, files in os.walk(folder):
        inside = Path(place).relative_to(folder)
        is_top = not inside.parts
        for name in (*folders, *files):  # before any is passed over: what the device makes is written through it
            if (Path(place) / name).is_symlink():
                raise BundleError(f"{Path(place) / name} is a link, and a bundle has none. Remove it.")
        folders[:] = sorted(name for name in folders if name != _CACHE and not (is_top and name in _MADE_HERE))
        for name in sorted(files):
            count += 1
            if count > MAX_FILES:
                raise BundleError(f"{folder} holds more than {MAX_FILES} files. {_REMEDY}")
            if not (is_top and name == MANIFEST):
                yield (inside / name).as_posix()
