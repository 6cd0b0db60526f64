"""A bundle's model over HTTP, by the standard library alone: a picture's file in, a mask out."""

from prunekit_runtime.serving.access import VARIABLE as VARIABLE
from prunekit_runtime.serving.access import Access as Access
from prunekit_runtime.serving.access import checked_token as checked_token
from prunekit_runtime.serving.access import is_loopback as is_loopback
from prunekit_runtime.serving.access import new_token as new_token
from prunekit_runtime.serving.access import read_token as read_token
from prunekit_runtime.serving.labelling import Labelling as Labelling
from prunekit_runtime.serving.limits import Limits as Limits
from prunekit_runtime.serving.routes import Service as Service
from prunekit_runtime.serving.server import Server as Server
from prunekit_runtime.serving.server import run_until_stopped as run_until_stopped
