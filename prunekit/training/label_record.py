"""What a run keeps of its labels: pixels by class of both splits, in `labels.json`."""

from prunekit.data.dataset import SegmentationDataset
from prunekit.data.labels.counts import LabelReport, label_report
from prunekit.errors import RunUsageError
from prunekit.run import RunDirectory, read_json, write_json


def record_labels(
    run: RunDirectory, train_set: SegmentationDataset, val_set: SegmentationDataset, *, resumed: bool
) -> LabelReport:
    """Count the labels of both splits, write them to the run and return them.

    Raises:
        RunError: the run is gone on with, and began with other classes; the class list may have been edited.
    """
    report = label_report(train_set, val_set)
    if resumed and run.labels_path.exists():
        begun = read_json(run.labels_path).get("classes")
        if begun != list(report.classes):
            raise RunUsageError(
                f"{run.path} was begun with the classes {str(begun)[:200]}, the class list now has "
                f"{str(list(report.classes))[:200]}. Put the class list back, or train in a new run."
            )
    write_json(run.labels_path, report.to_json())
    return report
