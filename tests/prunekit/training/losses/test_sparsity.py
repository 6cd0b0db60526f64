import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from prunekit.errors import ConfigError
from prunekit.pruning import analyse, prune_
from prunekit.pruning.surgery import make_plan
from prunekit.recipe import TrainConfig
from prunekit.training.losses import make_regulariser
from prunekit.training.losses.sparsity import norm_scales

WEIGHT = 0.01


class Branches(nn.Module):
    """A residual stage, a depthwise convolution, a concatenation, and a head that stays whole."""

    def __init__(self):
        super().__init__()
        self.stem, self.stem_norm = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.inner, self.inner_norm = nn.Conv2d(8, 6, 1), nn.BatchNorm2d(6)
        self.back, self.back_norm = nn.Conv2d(6, 8, 1), nn.BatchNorm2d(8)
        self.depth, self.depth_norm = nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.BatchNorm2d(8)
        self.side, self.act = nn.Conv2d(3, 4, 1), nn.PReLU(4)
        self.head = nn.Conv2d(12, 2, 1)
        self.head_norm = nn.BatchNorm2d(2)

    def forward(self, images):
        stem = torch.relu(self.stem_norm(self.stem(images)))
        inner = torch.relu(self.inner_norm(self.inner(stem)))
        joined = torch.relu(stem + self.back_norm(self.back(inner)))
        deep = torch.relu(self.depth_norm(self.depth(joined)))
        return self.head_norm(self.head(torch.cat([deep, self.act(self.side(images))], dim=1)))


@pytest.fixture(scope="module")
def analysed():
    torch.manual_seed(0)
    network = Branches()
    return network, analyse(network, (torch.zeros(2, 3, 8, 8),))


@pytest.fixture
def network(analysed):
    """With zero gradients everywhere, and scales of both signs."""
    network, _ = analysed
    torch.manual_seed(1)
    for parameter in network.parameters():
        parameter.data.normal_()
        parameter.grad = torch.zeros_like(parameter)
    return network


def config(kind, **settings):
    return TrainConfig(sparsity=kind, sparsity_weight=WEIGHT, **settings)


def pulled(network, regulariser):
    """Return what was added to each gradient."""
    for parameter in network.parameters():
        parameter.grad.zero_()
    regulariser.apply(network)
    return {name: parameter.grad.clone() for name, parameter in network.named_parameters()}


def test_none_asks_for_nothing(network):
    assert make_regulariser(network, config("none")) is None


def test_l1_pulls_every_scale_by_its_sign_and_nothing_else(network):
    for name, pull in pulled(network, make_regulariser(network, config("l1"))).items():
        expected = WEIGHT * network.get_parameter(name).sign() if name in norm_scales(network) else torch.zeros(1)
        torch.testing.assert_close(pull, expected.expand_as(pull))
    assert set(norm_scales(network)) == {f"{n}_norm.weight" for n in ("stem", "inner", "back", "depth", "head")}


def test_l1_leaves_frozen_channels_alone_where_the_coupling_is_known(analysed, network):
    pulls = pulled(network, make_regulariser(network, config("l1"), coupling=analysed[1]))
    assert pulls["head_norm.weight"].abs().max() == 0
    assert pulls["stem_norm.weight"].abs().min() > 0


@given(st.floats(0, 3), st.integers(0, 1000))
def test_polarisation_is_the_gradient_of_its_formula(t, seed):
    torch.manual_seed(seed)
    network = nn.Sequential(nn.BatchNorm2d(5), nn.Conv2d(5, 7, 1), nn.BatchNorm2d(7))
    for parameter in network.parameters():
        parameter.grad = torch.zeros_like(parameter)
    scales = [network[0].weight, network[2].weight]
    for scale in scales:
        nn.init.uniform_(scale)
    pulls = pulled(network, make_regulariser(network, config("polarisation", polarisation_t=t)))
    joined = torch.cat([scale.detach().clone() for scale in scales]).requires_grad_()
    (WEIGHT * (t * joined.abs().sum() - (joined - joined.mean()).abs().sum())).backward()
    got = torch.cat([pulls["0.weight"], pulls["2.weight"]])
    torch.testing.assert_close(got, joined.grad, rtol=1e-4, atol=1e-7)
    assert all(pull.abs().max() == 0 for name, pull in pulls.items() if name not in ("0.weight", "2.weight"))


def test_polarisation_parts_the_scales():
    torch.manual_seed(0)
    network = nn.Sequential(nn.BatchNorm2d(64))
    nn.init.uniform_(network[0].weight)
    regulariser = make_regulariser(network, config("polarisation", polarisation_t=0.5))
    optimiser = torch.optim.SGD(network.parameters(), lr=1.0)
    for _ in range(300):
        network[0].weight.grad = torch.zeros(64)
        regulariser.apply(network)
        optimiser.step()
        regulariser.project(network)
    scales = network[0].weight.detach()
    assert ((scales < 0.02) | (scales > 0.98)).all()
    assert 10 < (scales < 0.02).sum() < 54


def test_polarisation_keeps_pulled_scales_between_0_and_1_and_others_as_they_are(analysed, network):
    network.stem_norm.weight.data[:] = torch.linspace(-2, 2, 8)
    network.head_norm.weight.data[:] = torch.tensor([-3.0, 3.0])
    make_regulariser(network, config("polarisation"), coupling=analysed[1]).project(network)
    torch.testing.assert_close(network.stem_norm.weight, torch.linspace(-2, 2, 8).clamp(0, 1))
    assert network.head_norm.weight.tolist() == [-3.0, 3.0]


def test_mask_pulls_the_scales_that_a_plan_removes_and_no_others(analysed, network):
    coupling = analysed[1]
    keep = {group.name: range(group.width // 2) for group in coupling.free}
    pulls = pulled(network, make_regulariser(network, config("mask"), coupling=coupling, keep=keep))
    plan = make_plan(coupling, keep)
    kept = {row.parameter: torch.tensor(row.keep) for row in plan.slices if row.dim == 0}
    for name, scale in norm_scales(network).items():
        expected = WEIGHT * scale.detach().sign()
        expected[kept.get(name, torch.arange(len(scale)))] = 0
        torch.testing.assert_close(pulls[name], expected)
    assert all(pull.abs().max() == 0 for name, pull in pulls.items() if name not in norm_scales(network))


def test_group_pulls_every_weight_of_a_unit_by_one_factor_from_1_to_16(analysed, network):
    coupling = analysed[1]
    pulls = pulled(network, make_regulariser(network, config("group"), coupling=coupling))
    inner = next(group for group in coupling.free if group.name == "inner")
    assert inner.width == 6
    strength = (
        network.inner.weight.square().flatten(1).sum(1)
        + network.inner_norm.weight.square()
        + network.back.weight.square().sum(dim=(0, 2, 3))
    ).sqrt()
    factor = WEIGHT * 2 ** (4 * (strength.max() - strength) / (strength.max() - strength.min()))
    torch.testing.assert_close(pulls["inner_norm.weight"], factor * network.inner_norm.weight)
    stem = pulls["stem_norm.weight"] / network.stem_norm.weight.detach()  # the factors of the residual stage
    torch.testing.assert_close(
        pulls["inner.weight"], (factor[:, None, None, None] + stem[None, :, None, None]) * network.inner.weight
    )
    torch.testing.assert_close(
        pulls["back.weight"], (stem[:, None, None, None] + factor[None, :, None, None]) * network.back.weight
    )
    assert float(stem.min()) == pytest.approx(WEIGHT)
    assert float(stem.max()) == pytest.approx(16 * WEIGHT)
    for name in ("stem.bias", "stem_norm.bias", "head.bias", "head_norm.weight", "act.weight"):
        assert pulls[name].abs().max() == 0, name
    # A consumer that reads two groups side by side: each index follows its own group.
    side = pulls["side.weight"][:, 0, 0, 0] / network.side.weight[:, 0, 0, 0]
    torch.testing.assert_close(pulls["head.weight"][:, 8:, 0, 0], side * network.head.weight[:, 8:, 0, 0])
    torch.testing.assert_close(pulls["head.weight"][:, :8, 0, 0], stem * network.head.weight[:, :8, 0, 0])


def test_group_pulls_equal_units_equally(analysed, network):
    for parameter in network.parameters():
        parameter.data.fill_(0.5)
    pulls = pulled(network, make_regulariser(network, config("group"), coupling=analysed[1]))
    torch.testing.assert_close(pulls["depth.weight"], torch.full((8, 1, 3, 3), WEIGHT * 0.5))


def test_group_follows_a_shared_weight_once():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1), nn.Conv2d(4, 2, 1))
    network[2].weight = network[1].weight
    regulariser = make_regulariser(network, config("group"), coupling=analyse(network, (torch.zeros(1, 3, 4, 4),)))
    for parameter in network.parameters():
        parameter.grad = torch.zeros_like(parameter)
    assert all(torch.isfinite(pull).all() for pull in pulled(network, regulariser).values())


@pytest.mark.parametrize("kind", ["l1", "polarisation", "group"])
def test_parameters_without_a_gradient_take_no_part(analysed, network, kind):
    network.inner_norm.weight.grad = network.inner.weight.grad = None
    regulariser = make_regulariser(network, config(kind), coupling=analysed[1])
    regulariser.apply(network)
    regulariser.project(network)
    assert network.inner_norm.weight.grad is None
    assert network.stem_norm.weight.grad.abs().max() > 0


def test_the_identity_names_what_is_pulled(analysed, network):
    coupling = analysed[1]
    half = {group.name: range(group.width // 2) for group in coupling.free}
    more = {group.name: range(group.width // 2 + 1) for group in coupling.free}
    made = [
        make_regulariser(network, config("l1")),
        make_regulariser(network, config("l1"), coupling=coupling),
        make_regulariser(network, config("polarisation")),
        make_regulariser(network, config("group"), coupling=coupling),
        make_regulariser(network, config("mask"), coupling=coupling, keep=half),
        make_regulariser(network, config("mask"), coupling=coupling, keep=more),
    ]
    assert len({regulariser.identity for regulariser in made}) == len(made)
    assert made[4].identity == make_regulariser(network, config("mask"), coupling=coupling, keep=half).identity


def test_what_is_missing_is_named(analysed, network):
    with pytest.raises(ConfigError, match=r"group needs a coupling.*prunekit prune"):
        make_regulariser(network, config("group"))
    with pytest.raises(ConfigError, match="mask needs a coupling"):
        make_regulariser(network, config("mask"), keep={})
    with pytest.raises(ConfigError, match="mask needs the plan"):
        make_regulariser(network, config("mask"), coupling=analysed[1])
    with pytest.raises(ConfigError, match="scales of norms"):
        make_regulariser(nn.Sequential(nn.Conv2d(3, 4, 1)), config("l1"))
    with pytest.raises(ConfigError, match="scales of norms"):  # nothing is removed
        make_regulariser(network, config("mask"), coupling=analysed[1], keep={})


def test_a_cut_network_has_its_own_regulariser(analysed):
    torch.manual_seed(0)
    network = Branches()
    coupling = analysed[1]
    prune_(network, make_plan(coupling, {group.name: range(group.width // 2) for group in coupling.free}))
    regulariser = make_regulariser(network, config("l1"))
    for parameter in network.parameters():
        parameter.grad = torch.zeros_like(parameter)
    assert len(pulled(network, regulariser)["stem_norm.weight"]) == 4


@pytest.mark.parametrize("kind", ["l1", "polarisation", "group", "mask"])
def test_everything_happens_on_the_network_s_device(analysed, kind):
    """On the meta device an operand from elsewhere raises."""
    coupling = analysed[1]
    keep = {group.name: range(group.width // 2) for group in coupling.free}
    network = Branches()
    regulariser = make_regulariser(network, config(kind), coupling=coupling, keep=keep)
    network.to("meta")
    for parameter in network.parameters():
        parameter.grad = torch.zeros_like(parameter)
    regulariser.apply(network)
    regulariser.project(network)
