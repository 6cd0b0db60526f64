import copy
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from prunekit.errors import ModelError
from prunekit.models.ccs import CCSHead
from prunekit.models.outputs import adapt
from prunekit.models.segmenter import Segmenter

LOGITS = torch.zeros(2, 4, 6, 8)


@pytest.mark.parametrize(
    ("raw", "aux"),
    [
        (LOGITS, []),
        ((LOGITS,), []),
        ([LOGITS, LOGITS, LOGITS], ["aux1", "aux2"]),
        ({"out": LOGITS, "aux": LOGITS}, ["aux"]),
        ({"logits": LOGITS}, []),
        (SimpleNamespace(logits=LOGITS, loss=None), []),
    ],
)
def test_adapted(raw, aux):
    main, others = adapt(raw, 4)
    assert main is LOGITS
    assert list(others) == aux


@pytest.mark.parametrize(
    ("raw", "names"),
    [
        (None, "NoneType"),
        ("text", "str"),
        ((), "tuple"),
        ({"features": LOGITS}, "features"),
        (torch.zeros(2, 5, 6, 8), r"\(2, 5, 6, 8\)"),
        (torch.zeros(2, 4), r"\(2, 4\)"),
        ((LOGITS, torch.zeros(2, 9)), "aux1"),
    ],
)
def test_what_cannot_be_adapted_is_named(raw, names):
    with pytest.raises(ModelError, match=names):
        adapt(raw, 4)


@given(st.integers(1, 70), st.integers(1, 70), st.sampled_from([1, 4, 32]))
@settings(max_examples=25, deadline=None)
def test_padding_is_cropped_again(height, width, stride):
    pixelwise = nn.Conv2d(3, 4, 1)
    images = torch.randn(1, 3, height, width)
    torch.testing.assert_close(Segmenter(pixelwise, 4, stride)(images), pixelwise(images))


def test_small_logits_are_resized_over_the_padded_images():
    network = nn.Conv2d(3, 4, 4, stride=4)
    images = torch.randn(2, 3, 30, 45)
    padded = F.pad(images, (0, 3, 0, 2))
    wanted = F.interpolate(network(padded), (32, 48), mode="bilinear", align_corners=False)[..., :30, :45]
    torch.testing.assert_close(Segmenter(network, 4, 4)(images), wanted)


def test_terms_reach_the_outputs_and_stay_nowhere():
    head = CCSHead(3, 4)
    segmenter = Segmenter(head, 4, 8)
    terms = segmenter.outputs(torch.randn(2, 3, 30, 45)).ccs
    assert (terms.height, terms.width) == (32, 48)
    segmenter(torch.randn(2, 3, 32, 48))
    assert head.terms is None
    copy.deepcopy(segmenter)
    assert segmenter.eval().outputs(torch.randn(2, 3, 32, 48)).ccs is None


@pytest.mark.parametrize("arguments", [(1, 1), (4, 0)])
def test_impossible_arguments(arguments):
    with pytest.raises(ModelError, match="at least"):
        Segmenter(nn.Identity(), *arguments)
