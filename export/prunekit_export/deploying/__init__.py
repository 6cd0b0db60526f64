"""`prunekit deploy`: a bundle to devices, built, checked and measured there, and what they report."""

from prunekit_export.deploying.device import STEPS as STEPS
from prunekit_export.deploying.device import DeployConfig as DeployConfig
from prunekit_export.deploying.metering import device_meter as device_meter
from prunekit_export.deploying.outcome import DeviceOutcome as DeviceOutcome
from prunekit_export.deploying.outcome import ModelRow as ModelRow
from prunekit_export.deploying.source import bundle_of as bundle_of
from prunekit_export.deploying.workflow import deploy as deploy
