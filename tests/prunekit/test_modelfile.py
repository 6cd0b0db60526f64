import contextlib
import json
import re
import resource

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from prunekit.data.dataset import ClassMap
from prunekit.data.transforms import contract_of
from prunekit.errors import ModelError, PruneError, PrunekitError, RunError
from prunekit.modelfile import MAX_CARD_BYTES, load_model, new_card, rebuild, save_model, sha256_of
from prunekit.models.zoo import build
from prunekit.pruning import analyse, arbitrary_plan, prune_
from prunekit.recipe import DataConfig, ModelConfig
from prunekit.run import RunDirectory

CLASSES = ClassMap(("road", "sky", "car"), ((1, 2, 3), (4, 5, 6), (7, 8, 9)))
SPEC = "python:prunekit.models.street:street_net?width=4"
IMAGES = torch.randn(2, 3, 33, 47, generator=torch.Generator().manual_seed(0))


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture
def run(tmp_path):
    return RunDirectory(tmp_path)


def _built(head="plain"):
    segmenter = build(SPEC, num_classes=3, head=head)
    segmenter.train()(IMAGES)  # moves the running statistics off their start
    return segmenter.eval(), new_card(ModelConfig(name=SPEC, head=head), CLASSES, contract_of(DataConfig(), 1))


@pytest.mark.parametrize("head", ["plain", "ccs"])
def test_a_network_comes_back_with_the_same_answers(run, head):
    segmenter, card = _built(head)
    written = save_model(run, segmenter.to(memory_format=torch.channels_last), card.followed_by({"step": "train"}))
    state = torch.get_rng_state()
    loaded = load_model(run)
    assert torch.equal(torch.get_rng_state(), state)
    assert loaded.card == written
    assert loaded.card.classes == CLASSES
    assert loaded.contract == contract_of(DataConfig(), 1)
    assert set(loaded.card.versions) >= {"prunekit", "torch"}
    assert not loaded.segmenter.training
    with torch.no_grad():
        torch.testing.assert_close(loaded.segmenter(IMAGES), segmenter(IMAGES))


def test_a_pruned_network_comes_back_by_its_plan(run):
    segmenter, card = _built()
    plan = arbitrary_plan(analyse(segmenter.network, (IMAGES,)), 0.5)
    prune_(segmenter.network, plan)
    save_model(run, segmenter, card.model_copy(update={"plan": plan.to_json()}))
    loaded = load_model(run)
    with torch.no_grad():
        torch.testing.assert_close(loaded.segmenter(IMAGES), segmenter(IMAGES))


def test_the_files_hold_no_pickle_and_no_path(run):
    save_model(run, *_built())
    assert b"\x80\x04" not in run.weights_path.read_bytes()[:64]
    assert str(run.path) not in run.model_path.read_text()
    assert {path.name for path in run.path.iterdir()} == {"model.safetensors", "model.json"}


def test_one_flipped_bit_in_the_weights_is_refused(run):
    save_model(run, *_built())
    content = bytearray(run.weights_path.read_bytes())
    content[-1] ^= 1
    run.weights_path.write_bytes(content)
    with pytest.raises(RunError, match=r"is not the file that model\.json describes"):
        load_model(run)


def test_missing_files_are_named(run):
    with pytest.raises(RunError, match=r"holds no model\.json"):
        load_model(run)
    save_model(run, *_built())
    run.weights_path.unlink()
    with pytest.raises(RunError, match=r"holds no model\.safetensors"):
        load_model(run)


def test_an_oversized_card_is_not_read(run):
    save_model(run, *_built())
    with run.model_path.open("ab") as file:
        file.truncate(MAX_CARD_BYTES + 1)
    with pytest.raises(RunError, match="at most"):
        load_model(run)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"extra": 1}, RunError),
        ({"format": 2}, RunError),
        ({"num_classes": "3"}, RunError),
        ({"num_classes": 4}, RunError),
        ({"palette": [[0, 0, 0]]}, RunError),
        ({"palette": [[0, 0, 300]] * 3}, RunError),
        ({"preprocessing": {}}, RunError),
        ({"weights_sha256": "../../etc"}, RunError),
        ({"factory": "python:os:system?command=true"}, ModelError),
        ({"factory": "nonsense"}, ModelError),
        ({"plan": {"format": 1, "slices": [], "groups": {"nowhere": 2}}}, PruneError),
        ({"plan": {"nonsense": True}}, PruneError),
    ],
    ids=lambda value: json.dumps(value)[:40] if isinstance(value, dict) else "",
)
def test_a_card_that_was_changed_is_refused(run, change, error):
    save_model(run, *_built())
    card = json.loads(run.model_path.read_text())
    run.model_path.write_text(json.dumps(card | change))
    with pytest.raises(error):
        load_model(run)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 10_000), st.binary(max_size=4))
def test_a_damaged_card_gives_one_of_our_errors_or_loads(run, position, garbage):
    if not run.weights_path.exists():
        save_model(run, *_built())
        (run.path / "whole").write_bytes(run.model_path.read_bytes())
    whole = (run.path / "whole").read_bytes()
    position %= len(whole)
    run.model_path.write_bytes(whole[:position] + garbage + whole[position + len(garbage) :])
    with contextlib.suppress(PrunekitError):
        load_model(run)


def test_weights_of_another_shape_are_refused_by_name(run):
    segmenter, card = _built()
    save_model(run, segmenter, card)
    tensors = load_file(run.weights_path)
    name = next(name for name, value in tensors.items() if value.ndim == 4)
    tensors[name] = tensors[name][:1].contiguous()
    save_file(tensors, run.weights_path)
    values = json.loads(run.model_path.read_text()) | {"weights_sha256": sha256_of(run.weights_path)}
    run.model_path.write_text(json.dumps(values))
    with pytest.raises(RunError, match=name):
        load_model(run)


@pytest.mark.parametrize("width", [12_000, 60_000, 100_000_000])
def test_a_few_words_do_not_make_a_network_that_fills_the_memory(run, width):
    """22 GiB, 12 TiB, and more than can be counted; the last two do not get as far as our bound."""
    save_model(run, *_built())
    values = json.loads(run.model_path.read_text())
    run.model_path.write_text(json.dumps(values | {"factory": SPEC.replace("width=4", f"width={width}")}))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ModelError, match=re.escape(str(run.model_path))):
        load_model(run)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 1 << 20  # KiB


def test_rebuild_gives_another_network_each_time_nothing_of_the_file_is_kept():
    _, card = _built()
    one, two = rebuild(card), rebuild(card)
    assert one is not two
    assert list(one.network.state_dict()) == list(two.network.state_dict())


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_weights_that_are_not_finite_are_not_loaded(run, value):
    """Whoever wrote them: not every tool looks at what it saves."""
    segmenter, card = _built()
    save_model(run, segmenter, card)
    weights = load_file(run.weights_path)
    next(tensor for tensor in weights.values() if tensor.dim() == 4).view(-1)[0] = value
    save_file(weights, run.weights_path)
    written = json.loads(run.model_path.read_text())
    run.model_path.write_text(json.dumps({**written, "weights_sha256": sha256_of(run.weights_path)}))
    with pytest.raises(ModelError, match="not finite"):
        load_model(run)
