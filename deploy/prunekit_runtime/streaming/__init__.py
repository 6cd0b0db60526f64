"""Pictures and frames through a model while they are read and written: stages overlap, order is kept."""

from prunekit_runtime.streaming.job import Inputs as Inputs
from prunekit_runtime.streaming.job import Job as Job
from prunekit_runtime.streaming.job import Output as Output
from prunekit_runtime.streaming.pipeline import MAX_THREADS as MAX_THREADS
from prunekit_runtime.streaming.pipeline import Model as Model
from prunekit_runtime.streaming.pipeline import Pipeline as Pipeline
from prunekit_runtime.streaming.pipeline import check_labels as check_labels
from prunekit_runtime.streaming.pipeline import usual_threads as usual_threads
from prunekit_runtime.streaming.report import StreamReport as StreamReport
