"""Golden pictures through all that a device does, and whether the labels are those of the network that was trained."""

from prunekit_runtime.checking.gates import Gates as Gates
from prunekit_runtime.checking.gates import usual_gates as usual_gates
from prunekit_runtime.checking.judging import Report as Report
from prunekit_runtime.checking.judging import check as check
