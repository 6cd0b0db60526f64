"""A bundle: all that a device needs of a network in one folder, opened only when every byte is the one written."""

from prunekit_runtime.bundle.layout import Bundle as Bundle
from prunekit_runtime.bundle.layout import GoldenEntry as GoldenEntry
from prunekit_runtime.bundle.layout import InputEntry as InputEntry
from prunekit_runtime.bundle.layout import ModelEntry as ModelEntry
from prunekit_runtime.bundle.layout import Profile as Profile
from prunekit_runtime.bundle.manifest import FORMAT_VERSION as FORMAT_VERSION
from prunekit_runtime.bundle.manifest import MAX_MANIFEST_BYTES as MAX_MANIFEST_BYTES
from prunekit_runtime.bundle.manifest import FileEntry as FileEntry
from prunekit_runtime.bundle.manifest import Manifest as Manifest
from prunekit_runtime.bundle.opening import MANIFEST as MANIFEST
from prunekit_runtime.bundle.opening import open_bundle as open_bundle
from prunekit_runtime.bundle.opening import read_manifest as read_manifest
