import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from prunekit.models.zoo import build
from prunekit.training.selection import Place
from prunekit.training.selection.pfb import CentreDensity, PfbSelector


def _points(count: int, dimensions: int, seed: int) -> torch.Tensor:
    return torch.randn(count, dimensions, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def _ready(centres: int, dimensions: int, seed: int = 0, alpha: float = 0.01) -> CentreDensity:
    density = CentreDensity(centres, dimensions, alpha)
    points = _points(centres, dimensions, seed)
    density.observe(points)
    density.update(points)
    assert density.ready
    return density


@settings(deadline=None)
@given(st.integers(2, 9), st.integers(1, 6), st.integers(1, 12), st.integers(0, 99), st.floats(0.001, 0.5))
def test_the_update_is_the_formula_written_out(centres, dimensions, batch_size, seed, alpha):
    density = _ready(centres, dimensions, seed, alpha)
    density.counts_N = torch.arange(1, centres + 1, dtype=torch.float64) * 3
    points = _points(batch_size, dimensions, seed + 1)
    unit = density.variance_D.sqrt().clamp(min=1e-12)
    nearest = [int(((density.centres_ND - p) / unit).square().sum(dim=1).argmin()) for p in points]
    expected, counts = density.centres_ND.clone(), density.counts_N.clone()
    for centre in set(nearest):
        members = torch.stack([p for p, owner in zip(points, nearest, strict=True) if owner == centre])
        n, m = float(counts[centre]), len(members)
        total = (1 - alpha) * n * expected[centre] + (1 + alpha * n / m) * members.sum(dim=0)
        expected[centre], counts[centre] = total / (n + m), n + m
    density.update(points)
    torch.testing.assert_close(density.centres_ND, expected)
    torch.testing.assert_close(density.counts_N, counts)


@given(st.integers(2, 9), st.integers(1, 6), st.integers(0, 99))
def test_the_log_density_is_the_mixtures_to_a_constant(centres, dimensions, seed):
    density = _ready(centres, dimensions, seed)
    density.counts_N = torch.arange(1, centres + 1, dtype=torch.float64)
    points = _points(5, dimensions, seed + 1)
    unit = density.variance_D.sqrt()
    width = (4 / (dimensions + 2)) ** (1 / (dimensions + 4)) * centres ** (-1 / (dimensions + 4))
    sigma = width * (density.centres_ND / unit).std(dim=0)
    kernels = torch.distributions.Normal(density.centres_ND / unit, sigma)
    log_kernels = kernels.log_prob((points / unit)[:, None]).sum(dim=-1)
    expected = torch.logsumexp(log_kernels + (density.counts_N / density.counts_N.sum()).log(), dim=1)
    got = density.log_density(points)
    torch.testing.assert_close(got - got[0], expected - expected[0])


def test_the_ranking_does_not_depend_on_the_units_of_the_descriptor():
    points, scale = _points(40, 5, 0), torch.tensor([1e-3, 1.0, 7.0, 1e3, 1e5], dtype=torch.float64)
    scores = []
    for unit in (torch.ones(5, dtype=torch.float64), scale):
        density = CentreDensity(8, 5, 0.01)
        for start in range(0, 40, 4):
            density.observe(points[start : start + 4] * unit)
            density.update(points[start : start + 4] * unit)
        scores.append(density.log_density(points * unit))
    torch.testing.assert_close(scores[0], scores[1])


def test_centres_are_seeded_over_as_many_batches_as_it_takes():
    density, points = CentreDensity(6, 3, 0.01), _points(8, 3, 0)
    density.observe(points)
    density.update(points[:4])
    assert not density.ready
    torch.testing.assert_close(density.centres_ND[:4], points[:4])
    density.update(points[4:6])
    assert density.ready
    torch.testing.assert_close(density.centres_ND, points[:6])
    density.update(points[6:])
    assert density.counts_N.sum() == 8


def test_a_centre_that_gathers_few_samples_is_their_mean_and_many_an_average_that_forgets():
    density = CentreDensity(2, 1, 0.01)
    density.centres_ND, density.counts_N = torch.tensor([[0.0], [100.0]]).double(), torch.tensor([1e9, 1.0]).double()
    density.variance_D.fill_(1)
    density.update(torch.tensor([[1.0], [102.0]]).double())
    assert density.centres_ND[0].item() == pytest.approx(0.01)
    assert density.centres_ND[1].item() == pytest.approx((0.99 * 100 + 1.01 * 102) / 2)


def test_a_dead_channel_changes_nothing():
    points = _points(20, 3, 0)
    dead = torch.cat([points, torch.full((20, 1), 0.25, dtype=torch.float64)], dim=1)
    density = CentreDensity(5, 4, 0.01)
    density.observe(dead)
    density.update(dead)
    assert density.log_density(dead).isfinite().all()


@pytest.fixture
def selector(tiny) -> PfbSelector:
    recipe = tiny(
        **{
            "selection.strategy": "pfb",
            "selection.ratio": 0.5,
            "selection.start": 0.0,
            "selection.end": 0.9,
            "selection.ramp": False,
            "selection.noise": 0.0,
        }
    )
    torch.manual_seed(0)
    return PfbSelector(build(recipe.model.name, num_classes=3).train(), recipe)


def _images(count: int, seed: int) -> torch.Tensor:
    return torch.randn(count, 3, 32, 48, generator=torch.Generator().manual_seed(seed))


def test_samples_unlike_those_seen_are_kept_and_the_usual_ones_left_out(selector):
    for step in range(4):
        selector.select(_images(8, step), Place(0, 10, step, 8))
    batch = _images(8, 9)
    batch[[2, 5, 6, 7]] = batch[[2, 5, 6, 7]] * 0.2 + 3  # brighter and flatter than all before
    assert selector.select(batch, Place(0, 10, 5, 8)).tolist() == [2, 5, 6, 7]


def test_all_samples_are_kept_until_the_centres_are_seeded_and_after_the_end(selector):
    assert len(selector.select(_images(3, 0), Place(0, 10, 0, 8))) == 3
    selector.select(_images(3, 1), Place(0, 10, 1, 8))
    before = selector.density.centres_ND.clone()
    assert len(selector.select(_images(8, 2), Place(9, 10, 0, 8))) == 8
    assert torch.equal(selector.density.centres_ND, before)  # the estimate is off: nothing is scored any more
    assert len(selector.select(_images(8, 2), Place(1, 10, 0, 8))) == 4


def test_only_the_kept_samples_move_the_centres(selector):
    selector.select(_images(8, 0), Place(0, 10, 0, 8))
    counted = float(selector.density.counts_N.sum())
    kept = selector.select(_images(8, 1), Place(0, 10, 1, 8))
    assert float(selector.density.counts_N.sum()) == counted + len(kept)


def test_selecting_leaves_the_network_and_the_global_generator_as_they_were(selector):
    network = selector._segmenter
    before = {name: value.clone() for name, value in network.state_dict().items()}
    torch.manual_seed(5)
    state = torch.get_rng_state()
    for step in range(3):
        selector.select(_images(8, step), Place(0, 10, step, 8))
    assert torch.equal(torch.get_rng_state(), state)
    assert network.training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_it_goes_on_from_its_state(selector, tiny):
    for step in range(3):
        selector.select(_images(5, step), Place(0, 10, step, 8))
    other = PfbSelector(selector._segmenter, tiny(**{"selection.strategy": "pfb"}))
    other._config, other.keep.config = selector._config, selector._config
    other.load_state({name: value.clone() for name, value in selector.state().items()})
    for step in range(3, 8):
        place = Place(0, 10, step, 8)
        assert torch.equal(selector.select(_images(5, step), place), other.select(_images(5, step), place))


def test_the_noise_is_measured_in_the_batchs_own_spread(selector):
    descriptors = _points(64, selector.density.centres_ND.shape[1], 3)
    selector.density.observe(descriptors)
    selector.density.update(descriptors)
    quiet = set(selector._thinnest(descriptors, 32, torch.Generator().manual_seed(0)).tolist())
    selector._config = selector._config.model_copy(update={"noise": 1e6})
    loud = set(selector._thinnest(descriptors, 32, torch.Generator().manual_seed(0)).tolist())
    assert len(quiet) == len(loud) == 32
    assert 6 < len(quiet & loud) < 26  # chance is 16
