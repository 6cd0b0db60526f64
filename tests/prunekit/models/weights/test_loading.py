"""Weights of a file into a network: found under any wrapping, taken whole or refused, and never by running code."""

import argparse
import zipfile

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from prunekit.errors import ModelError
from prunekit.models.street import StreetNet
from prunekit.models.weights.loading import load_weights_

IMAGES = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))


def network(num_classes=3, seed=0):
    torch.manual_seed(seed)
    built = StreetNet(num_classes, 4)
    built.train()(torch.randn(4, 3, 64, 64))  # moves the running statistics off their start
    return built.eval()


def same(one, two):
    return all(torch.equal(value, two.state_dict()[name]) for name, value in one.state_dict().items())


WRAPPINGS = {
    "plain": lambda state: state,
    "state_dict": lambda state: {"epoch": 3, "state_dict": state, "note": "best"},
    "model": lambda state: {"model": state, "optimizer": {"state": {0: {"exp_avg": torch.zeros(2)}}}},
    "model_state_dict": lambda state: {"model_state_dict": state},
    "net": lambda state: {"net": {"module." + name: value for name, value in state.items()}},
    "lightning": lambda state: {"state_dict": {"model." + name: value for name, value in state.items()}},
    "compiled": lambda state: {"module._orig_mod." + name: value for name, value in state.items()},
    "any name at all": lambda state: {"its.own.front." + name: value for name, value in state.items()},
    "in halves": lambda state: {
        half: {name.partition(".")[2]: value for name, value in state.items() if name.partition(".")[0] == half}
        for half in dict.fromkeys(name.partition(".")[0] for name in state)
    },
    "a moving average": lambda state: {"ema": {"decay": 0.9, "shadow": state}},
    "beside a moving average": lambda state: {
        "ema": {name: value * 0 for name, value in state.items()},
        "state_dict": state,
    },
}


@pytest.mark.parametrize("wrapping", WRAPPINGS)
def test_every_wrapping_gives_the_same_bits(tmp_path, wrapping):
    source, target, path = network(), network(seed=1), tmp_path / "weights.pth"
    torch.save(WRAPPINGS[wrapping](source.state_dict()), path)
    assert not same(source, target)
    report = load_weights_(target, path)
    assert same(source, target)
    assert report.loaded == len(source.state_dict())
    assert report.own == report.unused == ()
    with torch.no_grad():
        assert torch.equal(target(IMAGES), source(IMAGES))
    assert ("ema" in report.others) == (wrapping == "beside a moving average")


def test_safetensors_and_torch_s_first_format_are_read(tmp_path):
    source = network()
    save_file({"module." + name: value for name, value in source.state_dict().items()}, tmp_path / "a.safetensors")
    torch.save(source.state_dict(), tmp_path / "a.pt", _use_new_zipfile_serialization=False)
    for name in ("a.safetensors", "a.pt"):
        target = network(seed=1)
        load_weights_(target, tmp_path / name)
        assert same(source, target)


def test_a_part_can_be_asked_for(tmp_path):
    source, average = network(), network(seed=2)
    torch.save({"model": source.state_dict(), "ema": average.state_dict()}, tmp_path / "a.pt")
    target = network(seed=1)
    load_weights_(target, tmp_path / "a.pt", part="ema")
    assert same(average, target)
    with pytest.raises(ModelError, match=r"no part 'mean'.*'model', 'ema'"):
        load_weights_(target, tmp_path / "a.pt", part="mean")


class Wrapped(nn.Module):
    def __init__(self, seed):
        super().__init__()
        torch.manual_seed(seed)
        self.encoder, self.head = StreetNet(3, 4), nn.Conv2d(3, 2, 1)


def test_an_encoder_s_file_fits_where_the_rest_may_be_missing(tmp_path):
    source, target = network(), Wrapped(1)
    torch.save({"module." + name: value for name, value in source.state_dict().items()}, tmp_path / "a.pth")
    before = target.head.weight.clone()
    with pytest.raises(ModelError, match=r"(?s)Missing in the file:.*head\.weight.*--allow-missing 'head\.\*'"):
        load_weights_(target, tmp_path / "a.pth")
    report = load_weights_(target, tmp_path / "a.pth", allow_missing=["head.*"])
    assert (report.strip, report.add, report.own) == ("module.", "encoder.", ("head.weight", "head.bias"))
    assert same(source, target.encoder)
    assert torch.equal(target.head.weight, before)


def test_another_number_of_classes_is_a_head_to_be_trained_anew(tmp_path):
    source, target = network(num_classes=5), network(seed=1)
    torch.save(source.state_dict(), tmp_path / "a.pth")
    before = {name: value.clone() for name, value in target.state_dict().items()}
    with pytest.raises(ModelError, match=r"(?s)classifier\.weight: 5x\S+ in the file, 3x.*--allow-missing 'classifier"):
        load_weights_(target, tmp_path / "a.pth")
    assert all(torch.equal(value, before[name]) for name, value in target.state_dict().items())
    report = load_weights_(target, tmp_path / "a.pth", allow_missing=["classifier.*"])
    assert set(report.own) == {"classifier.weight", "classifier.bias"}
    assert torch.equal(target.classifier.weight, before["classifier.weight"])


def test_renamed_and_additional_tensors_are_refused_with_what_is_near(tmp_path):
    source = network()
    state = dict(source.state_dict())
    state["classifer.weight"] = state.pop("classifier.weight")
    torch.save(state, tmp_path / "a.pth")
    target = network(seed=1)
    with pytest.raises(ModelError, match=r"(?s)classifier\.weight; near: classifer\.weight.*Only in the file"):
        load_weights_(target, tmp_path / "a.pth", allow_missing=["nothing.*"])
    torch.save({**source.state_dict(), "aux.weight": torch.ones(2)}, tmp_path / "b.pth")
    with pytest.raises(ModelError, match=r"--allow-unexpected 'aux\.\*'"):
        load_weights_(target, tmp_path / "b.pth", allow_missing=["*"])
    assert load_weights_(target, tmp_path / "b.pth", allow_unexpected=["aux.*"]).unused == ("aux.weight",)
    assert same(source, target)


def test_another_network_is_named_so_and_nothing_is_advised_that_would_take_it(tmp_path):
    torch.save(nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 5)).state_dict(), tmp_path / "a.pth")
    with pytest.raises(ModelError, match="Hardly anything fits") as refusal:
        load_weights_(network(), tmp_path / "a.pth")
    assert "--allow" not in str(refusal.value)
    with pytest.raises(ModelError):
        load_weights_(network(), tmp_path / "a.pth", allow_missing=["*"], allow_unexpected=["*"])


def test_half_precision_is_widened_and_double_is_taken_only_without_rounding(tmp_path):
    source, target = network(), network(seed=1)
    torch.save(
        {name: v.half() if v.is_floating_point() else v for name, v in source.state_dict().items()}, tmp_path / "a.pt"
    )
    load_weights_(target, tmp_path / "a.pt")
    assert torch.equal(target.classifier.weight, source.classifier.weight.half().float())
    state = {name: v.double() if v.is_floating_point() else v for name, v in source.state_dict().items()}
    torch.save(state, tmp_path / "b.pt")
    load_weights_(target, tmp_path / "b.pt")
    assert same(source, target)
    state["classifier.weight"] = state["classifier.weight"] * (1 + 1e-12)
    torch.save(state, tmp_path / "b.pt")
    with pytest.raises(ModelError, match=r"classifier\.weight: float64 in the file, float32"):
        load_weights_(target, tmp_path / "b.pt")


class Trap:
    def __reduce__(self):
        return (pytest.fail, ("code of the file ran",))


@pytest.mark.parametrize("entry", [argparse.Namespace(lr=1), Trap(), network()], ids=["namespace", "trap", "module"])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_objects_are_refused_and_nothing_of_them_runs(tmp_path, entry):
    torch.save({"state_dict": network().state_dict(), "args": entry}, tmp_path / "a.pth")
    with pytest.raises(ModelError, match=r"only code can make.*torch\.save\(model\.state_dict"):
        load_weights_(network(), tmp_path / "a.pth")


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.pth", b"", "cannot be read"),
        ("a.pth", b"PK\x03\x04 no archive", "cannot be read"),
        ("a.safetensors", b"\xff" * 40, "is damaged"),
        ("a.h5", b"weights", r"read from \.safetensors, \.pt"),
    ],
)
def test_damaged_and_foreign_files_are_one_error(tmp_path, name, content, says):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ModelError, match=says):
        load_weights_(network(), tmp_path / name)


def test_missing_files_and_folders_are_named(tmp_path):
    with pytest.raises(ModelError, match="does not exist"):
        load_weights_(network(), tmp_path / "a.pth")
    (tmp_path / "b.pth").touch()
    with pytest.raises(ModelError, match=r"are a folder\. Name a file in it, such as .*b\.pth"):
        load_weights_(network(), tmp_path)


def test_a_small_archive_that_unpacks_to_much_is_not_unpacked(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.pth", "w", zipfile.ZIP_DEFLATED) as archive:
        for index in range(40):
            archive.writestr(f"a/data/{index}", bytes(4 << 20))
    assert (tmp_path / "a.pth").stat().st_size < 1 << 20
    with pytest.raises(ModelError, match="unpacks to 167772160 bytes"):
        load_weights_(network(), tmp_path / "a.pth")


def test_a_mapping_in_a_thousand_places_takes_no_time(tmp_path):
    inner = {"weight": torch.zeros(1)}
    for _ in range(5):
        inner = {f"key{index}": inner for index in range(100)}
    torch.save(inner, tmp_path / "a.pth")
    with pytest.raises(ModelError):
        load_weights_(network(), tmp_path / "a.pth")
