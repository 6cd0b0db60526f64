"""Weights and checkpoints: the header of a safetensors file, and the whole of it."""

import hashlib
import json
import struct

import pytest
import torch

from prunekit.modelfile import load_model
from prunekit.models.segmenter import Segmenter
from prunekit.recipe import parse_recipe
from prunekit.run import RunDirectory
from prunekit.training.events import Silent
from prunekit.training.optimisers import make_optimiser
from prunekit.training.selection import make_selector
from prunekit.training.state import Counts, fingerprint, load_state
from prunekit.workflows.train import build_network, train

RECIPE = parse_recipe(
    {
        "data": {"height": 32, "width": 48, "train_images": 4, "val_images": 1},
        "model": {"name": "python:prunekit.models.street:street_net?width=4"},
        "train": {"epochs": 1, "batch_size": 4, "threads": 1, "device": "cpu"},
        "selection": {"strategy": "random"},
    }
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    run = RunDirectory(tmp_path_factory.mktemp("run"))
    train(RECIPE, run, Silent())
    return run


def _damaged(mutate, draw, content: bytes) -> bytes:
    if draw.random() < 0.3:
        return mutate.bytes(draw, content[: draw.choice((200, len(content)))])
    (length,) = struct.unpack("<Q", content[:8])
    header = mutate.json(draw, json.loads(content[8 : 8 + length]))
    header += b" " * (-len(header) % 8)
    claimed = len(header) if draw.random() < 0.9 else draw.choice((0, 1, len(header) * 2, 2**31, 2**63))
    return struct.pack("<Q", claimed) + header + content[8 + length :]


def test_weights(fuzz, mutate, trained, monkeypatch):
    content, card = trained.weights_path.read_bytes(), json.loads(trained.model_path.read_text())
    segmenter = build_network(RECIPE, card["num_classes"])
    monkeypatch.setattr("prunekit.modelfile.rebuild", lambda *_, **__: segmenter)

    def read(path):
        loaded = load_model(RunDirectory(path.parent))
        assert isinstance(loaded.segmenter, Segmenter)

    def make(draw):
        damaged = _damaged(mutate, draw, content)
        sha256 = hashlib.sha256(damaged).hexdigest()
        (make.folder / "model.json").write_text(json.dumps(card | {"weights_sha256": sha256}))
        return damaged

    make.folder = trained.path.with_name("weights")
    make.folder.mkdir()
    fuzz(make, read, str(make.folder / "model.safetensors"))


def test_checkpoint(fuzz, mutate, trained):
    content = trained.state_path.read_bytes()
    num_classes = json.loads(trained.model_path.read_text())["num_classes"]
    segmenter = build_network(RECIPE, num_classes)
    optimiser, selector = make_optimiser(segmenter.network, RECIPE.train), make_selector(segmenter, RECIPE)
    expected = Counts(recipe=fingerprint(RECIPE))

    def read(path):
        counts = load_state(RunDirectory(path.parent), segmenter.network, optimiser, selector, expected)
        assert 0 <= counts.pruned_fraction <= 1
        segmenter(torch.zeros(1, 3, 32, 32)).sum().backward()
        optimiser.step()
        optimiser.zero_grad()

    fuzz(lambda draw: _damaged(mutate, draw, content), read, "state.safetensors")
