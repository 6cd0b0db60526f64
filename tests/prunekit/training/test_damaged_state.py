import json
from functools import partial

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from prunekit.errors import RunError
from prunekit.training.events import Silent
from prunekit.workflows.train import train

KINDS = {
    "adamw": {},
    "sgd": {"train.optimiser": "sgd", "train.lr": 0.01},
    "pfb": {"selection.strategy": "pfb", "selection.start": 0.0, "selection.centres": 2},
}


class StoppedError(Exception):
    pass


class StopInEpoch2(Silent):
    def on_step(self, event):
        if event.epoch == 2:
            raise StoppedError


@pytest.fixture(params=KINDS)
def interrupted(request, tiny, run):
    recipe = tiny(**KINDS[request.param])
    with pytest.raises(StoppedError):
        train(recipe, run, StopInEpoch2())
    with safe_open(run.state_path, framework="pt") as file:
        counts = json.loads(file.metadata()["prunekit"])
        return recipe, counts, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


def _refused(recipe, run, tensors, counts, message=r"state\.safetensors (does not fit|is damaged)"):
    save_file(tensors, run.state_path, {"prunekit": json.dumps(counts)})
    with pytest.raises(RunError, match=message) as caught:
        train(recipe, run)
    assert len(str(caught.value)) < 600


def test_a_tensor_that_is_missing_or_of_another_form_is_refused(interrupted, run):
    recipe, counts, tensors = interrupted
    changes = {
        "longer": lambda value: torch.cat([value.reshape(-1), value.reshape(-1)]),
        "deeper": lambda value: value[None],
        "whole numbers": lambda value: value.to(torch.int16),
        "nan": lambda value: torch.full_like(value, torch.nan) if value.is_floating_point() else value[None],
    }
    generator = torch.Generator().manual_seed(0)
    remembered = [name for name in tensors if not name.startswith("network/")]
    assert remembered
    every = [name for name in remembered if name.startswith("selector/")]
    drawn = [remembered[i] for i in torch.randperm(len(remembered), generator=generator)[:3]]
    for name in (*every, *drawn):
        _refused(recipe, run, {key: value for key, value in tensors.items() if key != name}, counts)
        _refused(recipe, run, {**tensors, f"{name}s": tensors[name].clone()}, counts)
        for change in changes.values():
            _refused(recipe, run, {**tensors, name: change(tensors[name]).contiguous()}, counts)
    positive = ("/step", "/exp_avg_sq", "/carry", "/counts", "/variance", "/batches")
    for name in {name.rpartition("/")[2]: name for name in remembered if name.endswith(positive)}.values():
        _refused(recipe, run, {**tensors, name: torch.full_like(tensors[name], -7)}, counts)


def test_files_of_earlier_versions_do_not_say_how_many_tensors_there_are(interrupted, run):
    recipe, counts, tensors = interrupted
    del counts["tensors"]
    save_file(tensors, run.state_path, {"prunekit": json.dumps(counts)})
    train(recipe, run)


@pytest.mark.parametrize(
    "change",
    [
        {"epochs_done": 10**19}, {"epochs_done": -1}, {"epochs_done": 1.5}, {"epochs_done": None},
        {"images_seen": 1, "images_kept": 2}, {"train_wall_s": float("nan")}, {"train_wall_s": float("inf")},
        {"scaler": {"scale": 1.0}}, {"scaler": []}, {"tensors": 0}, {"more": 1}, {"recipe": "x"},
    ],
)  # fmt: skip
@pytest.mark.parametrize("interrupted", ["adamw"], indirect=True)
def test_counts_out_of_range_are_refused(interrupted, run, change):
    recipe, counts, tensors = interrupted
    _refused(recipe, run, tensors, counts | change)


@pytest.mark.parametrize("interrupted", ["adamw"], indirect=True)
def test_a_file_far_larger_than_the_network_is_not_read(interrupted, run, monkeypatch):
    recipe, _, _ = interrupted
    with run.state_path.open("r+b") as file:
        file.truncate(1 << 40)  # takes no space on the disk
    monkeypatch.setattr("prunekit.tensorfile.safe_open", partial(pytest.fail, "it was opened"))
    with pytest.raises(RunError, match="bytes, at most"):
        train(recipe, run)
    run.state_path.write_bytes((1 << 62).to_bytes(8, "little") + b"{}")
    with pytest.raises(RunError, match="a header of"):
        train(recipe, run)
