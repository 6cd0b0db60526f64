"""`prunekit bundle`: all that a device needs of a run in one folder, golden pictures and the runtime included."""

from prunekit_export.bundling.workflow import BundleConfig as BundleConfig
from prunekit_export.bundling.workflow import BundleSummary as BundleSummary
from prunekit_export.bundling.workflow import write_bundle as write_bundle
