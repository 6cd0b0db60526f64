"""What is on this machine, what the commands need of it, and what to do about what is missing."""

from prunekit_runtime.doctoring.ability import Ability as Ability
from prunekit_runtime.doctoring.ability import abilities as abilities
from prunekit_runtime.doctoring.bundles import bundle_findings as bundle_findings
from prunekit_runtime.doctoring.finding import Finding as Finding
from prunekit_runtime.doctoring.finding import State as State
from prunekit_runtime.doctoring.machine import machine_findings as machine_findings
from prunekit_runtime.doctoring.packages import package_findings as package_findings
