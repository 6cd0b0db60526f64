import json
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from prunekit.errors import DataError
from prunekit.metrics import ConfusionMatrix

PIXELS = st.lists(st.tuples(st.sampled_from([0, 1, 2, 3, 255]), st.integers(0, 3)), min_size=1, max_size=60)


def counted(pixels, num_classes=4):
    matrix = ConfusionMatrix(num_classes)
    labels, predictions = zip(*pixels, strict=True)
    matrix.update(torch.tensor(labels), torch.tensor(predictions))
    return matrix


@given(PIXELS)
def test_iou_is_intersection_over_union_of_pixel_sets(pixels):
    kept = [pair for pair in enumerate(pixels) if pair[1][0] != 255]
    found = counted(pixels)
    for label, iou in enumerate(found.iou_K.tolist()):
        truth = {place for place, (true, _) in kept if true == label}
        guess = {place for place, (_, predicted) in kept if predicted == label}
        if truth | guess:
            assert iou == pytest.approx(len(truth & guess) / len(truth | guess))
        else:
            assert math.isnan(iou)
    assert found.pixels == len(kept)


@given(PIXELS, PIXELS)
def test_merging_equals_counting_together(first, second):
    merged = counted(first)
    merged.merge(counted(second))
    assert torch.equal(merged.counts_KK, counted([*first, *second]).counts_KK)


@given(PIXELS)
def test_the_json_is_json(pixels):
    values = json.loads(json.dumps(counted(pixels).to_json(), allow_nan=False))
    assert len(values["iou"]) == 4
    assert [label for label, iou in enumerate(values["iou"]) if iou is None] == values["absent_classes"]


def test_perfect_and_empty():
    perfect = counted([(0, 0), (2, 2), (255, 1)])
    assert perfect.miou == perfect.pixel_accuracy == 1.0
    assert perfect.to_json()["absent_classes"] == [1, 3]
    empty = counted([(255, 0)])
    assert math.isnan(empty.miou)
    assert math.isnan(empty.pixel_accuracy)


def test_a_class_that_is_only_predicted_counts_as_zero():
    assert counted([(0, 0), (0, 1)]).iou_K[:2].tolist() == [0.5, 0.0]
    assert counted([(0, 0), (0, 1)]).miou == 0.25


def test_counts_are_exact_where_float32_is_not():
    matrix = ConfusionMatrix(2)
    matrix.counts_KK[0, 0] = 2**53
    matrix.update(torch.tensor([0]), torch.tensor([0]))
    assert int(matrix.counts_KK[0, 0]) == 2**53 + 1


@pytest.mark.parametrize(("labels", "predictions"), [([4], [0]), ([0], [4]), ([-1], [0]), ([0], [-1]), ([0, 1], [0])])
def test_values_that_are_no_classes_are_refused(labels, predictions):
    with pytest.raises(DataError):
        ConfusionMatrix(4).update(torch.tensor(labels), torch.tensor(predictions))


def test_matrices_of_other_sizes_do_not_merge():
    with pytest.raises(DataError, match="4 and 5"):
        ConfusionMatrix(4).merge(ConfusionMatrix(5))


def test_uint8_labels_are_accepted():
    matrix = ConfusionMatrix(200)
    matrix.update(torch.full((3, 4), 199, dtype=torch.uint8), torch.full((3, 4), 198, dtype=torch.uint8))
    assert int(matrix.counts_KK[199, 198]) == 12
