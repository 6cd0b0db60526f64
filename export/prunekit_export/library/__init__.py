"""What `import prunekit` offers of this package: `export` and `predict`, for runs, files and networks.

The commands call the workflows beneath, not these.
"""

from prunekit_export.library.exporting import export as export
from prunekit_export.library.predicting import predict as predict
from prunekit_export.library.scoring import evaluate as evaluate
