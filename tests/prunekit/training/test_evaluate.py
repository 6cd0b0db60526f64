import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from prunekit.data.dataset import ClassMap, Sample
from prunekit.models.segmenter import Segmenter
from prunekit.training.evaluate import evaluate, restored_labels
from prunekit_runtime.preprocessing import Preprocessing

CLASSES = ClassMap(("dark", "bright", "never"), ((0, 0, 0), (255, 255, 255), (9, 9, 9)))


class Threshold(nn.Module):
    """Tells bright pixels from dark ones, so it is right about every image of `Blocks`."""

    def forward(self, images_B3HW):
        bright_B1HW = images_B3HW.mean(dim=1, keepdim=True)
        return torch.cat([-bright_B1HW, bright_B1HW, torch.full_like(bright_B1HW, -9)], dim=1)


class Blocks:
    """Images of several sizes: left half dark, right half bright."""

    classes = CLASSES
    sizes = ((12, 16), (12, 16), (20, 8), (16, 24))

    def __len__(self):
        return len(self.sizes)

    def __getitem__(self, index):
        height, width = self.sizes[index]
        labels = torch.zeros(height, width, dtype=torch.uint8)
        labels[:, width // 2 :] = 1
        return Sample((labels * 255).expand(3, -1, -1).contiguous(), labels, str(index))


@pytest.mark.parametrize(("height", "width", "multiple"), [(0, 0, 1), (0, 0, 32), (24, 48, 1), (24, 48, 32)])
@pytest.mark.parametrize("batch_size", [1, 3])
def test_a_perfect_network_scores_one_at_every_size_and_padding(height, width, multiple, batch_size):
    contract = Preprocessing(height, width, pad_multiple=multiple)
    segmenter = Segmenter(Threshold(), 3).train()
    done: list[tuple[int, int]] = []
    confusion = evaluate(
        segmenter,
        Blocks(),
        contract,
        batch_size=batch_size,
        device=torch.device("cpu"),
        on_batch=lambda images, of: done.append((images, of)),
    )
    assert confusion.miou == 1
    assert confusion.pixels == sum(h * w for h, w in Blocks.sizes)
    assert done[-1] == (4, 4)
    assert segmenter.training


@settings(deadline=None)
@given(st.integers(1, 20), st.integers(1, 20), st.sampled_from([(0, 0), (9, 7), (16, 16)]), st.integers(1, 9))
def test_labels_are_restored_as_the_device_restores_them(height, width, size, multiple):
    contract = Preprocessing(*size, pad_multiple=multiple)
    logits = torch.randn(4, *contract.network_size(height, width), generator=torch.Generator().manual_seed(0))
    ours = restored_labels(logits, contract, height, width).numpy()
    assert np.mean(ours == contract.restore_labels(logits[None].numpy(), height, width)) > 0.99  # ties may round apart
