import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from prunekit.models.ccs import CcsTerms
from prunekit.training.losses.ccs_loss import MAX_CLASSES, ccs_losses, inter_loss, intra_loss, labels_at


def terms_of(batch=2, channels=6, classes=4, height=5, width=7, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return CcsTerms(
        torch.randn(batch, classes, height, width, generator=generator).requires_grad_(),
        torch.randn(batch, channels, height, width, generator=generator).requires_grad_(),
        torch.randn(batch, classes, channels, generator=generator).requires_grad_(),
    )


@given(st.integers(0, 1000), st.integers(0, 2), st.sampled_from([-1, 3, 255]))
@settings(max_examples=40, deadline=None)
def test_losses_are_finite_bounded_and_differentiable(seed, labelled, ignore_index):
    terms = terms_of(seed=seed)
    labels = torch.randint(0, 3, (2, 20, 28), generator=torch.Generator().manual_seed(seed))
    labels[labelled:] = ignore_index
    losses = ccs_losses(terms, labels, ignore_index)
    (losses.coarse + losses.inter + losses.intra).backward()
    assert losses.inter.item() >= 0
    assert 0 <= losses.intra.item() <= 2
    for tensor in (terms.coarse_BKhw, terms.features_BDhw, terms.centres_BKD):
        assert torch.isfinite(tensor.grad).all()
    if labelled == 0:
        assert losses.coarse.item() == losses.inter.item() == losses.intra.item() == 0


def test_coarse_is_cross_entropy_at_the_features_size():
    terms = terms_of()
    labels = torch.randint(0, 4, (2, 5, 7))
    labels[0, 0] = 255
    wanted = F.cross_entropy(terms.coarse_BKhw, labels, ignore_index=255)
    torch.testing.assert_close(ccs_losses(terms, labels, 255).coarse, wanted)


def test_labels_are_those_at_the_features_centres():
    labels = torch.arange(6 * 9).reshape(1, 6, 9)
    terms = terms_of(batch=1, height=2, width=3)
    assert labels_at(terms, labels, 255)[0].tolist() == [[10, 13, 16], [37, 40, 43]]


def test_padding_is_ignored():
    labels = torch.zeros(1, 30, 45, dtype=torch.long)
    padded = CcsTerms(torch.zeros(1, 4, 8, 12), torch.zeros(1, 6, 8, 12), torch.zeros(1, 4, 6), height=64, width=48)
    at = labels_at(padded, labels, 255)
    assert (at[0, :4, :11] == 0).all()
    assert (at[0, 4:] == 255).all()


def test_inter_falls_as_centres_part():
    close, apart = torch.ones(1, 3, 4), 5 * torch.eye(4)[None, :3]
    present = torch.tensor([[True, True, False]])
    assert inter_loss(apart, present) < 1e-6 < 1 < inter_loss(close, present)


def test_inter_looks_at_present_classes_only():
    # The absent class 2 lies on class 0's centre, which only class 0's own row may feel.
    centres = 5 * torch.eye(4)[None, [0, 1, 0]]
    assert inter_loss(centres, torch.tensor([[False, True, False]])) < 1e-6


def test_intra_is_zero_at_the_centre_and_holds_the_centre_fixed():
    centres = torch.randn(1, 3, 6).requires_grad_()
    labels = torch.tensor([[0] * 5 + [1] * 5 + [2] * 2])
    features = centres.detach()[:, labels[0]].transpose(1, 2).clone()
    features[..., 10:] = 100  # class 2 has two pixels, too few to count
    features.requires_grad_()
    members = labels[:, None] == torch.arange(3)[:, None]
    loss = intra_loss(features, centres, members)
    torch.testing.assert_close(loss, torch.zeros(()), atol=1e-6, rtol=0)
    loss.backward()
    assert centres.grad is None


def test_intra_counts_the_largest_classes():
    classes = MAX_CLASSES + 2
    labels = torch.cat([torch.full((4 + (k >= 2),), k) for k in range(classes)])[None]
    members = labels[:, None] == torch.arange(classes)[:, None]
    centres = torch.ones(1, classes, 1)
    features = torch.where(labels < 2, -1.0, 1.0)[:, None]  # the two small classes are as far as can be
    assert intra_loss(features, centres, members) == 0


def test_losses_run_in_float32_under_autocast():
    terms, labels = terms_of(), torch.randint(0, 4, (2, 20, 28))
    wanted = ccs_losses(terms, labels, 255)
    with torch.autocast("cpu", torch.bfloat16):
        got = ccs_losses(terms, labels, 255)
    assert got.inter.dtype == torch.float32
    torch.testing.assert_close(got.inter, wanted.inter)
    torch.testing.assert_close(got.intra, wanted.intra)
