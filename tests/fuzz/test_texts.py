"""Recipes, class lists, and the documents of runs and exports."""

import copy
import json

import numpy as np
import pytest
import torch

from prunekit.data.labels.class_list import read_class_list
from prunekit.data.shapes import ShapesDataset
from prunekit.modelfile import new_card, read_card
from prunekit.models.zoo import build
from prunekit.pruning import analyse, arbitrary_plan, prune_
from prunekit.pruning.latency import LatencyTable, LayerTimes, Machine
from prunekit.pruning.surgery import Plan
from prunekit.recipe import ModelConfig, Recipe, dump_recipe, parse_recipe, read_recipe
from prunekit.run import RunDirectory, read_json
from prunekit_runtime.jsonfile import parse_json
from prunekit_runtime.preprocessing import Preprocessing, read_contract

CONTRACT = Preprocessing(height=8, width=12, pad_multiple=8).to_json()


def test_recipe(fuzz, mutate):
    def read(path):
        recipe = read_recipe(path)
        assert parse_recipe(recipe.model_dump()) == recipe

    fuzz(lambda draw: mutate.toml(draw, dump_recipe(Recipe()).encode()), read, "recipe.toml")


@pytest.mark.parametrize("kind", [".toml", ".map", ".ids", ".txt", ".csv"])
def test_class_list(fuzz, mutate, kind):
    colours = [("road", 128, 64, 128), ("person", 220, 20, 60), ("traffic light", 250, 170, 30)]
    documents = {
        ".toml": "ignore_index = 255\nignore_colour = [0, 0, 0]\nmasks = 'auto'\n"
        + "".join(f"[[classes]]\nname = '{label}'\ncolour = {list(colour)}\n" for label, *colour in colours),
        ".map": "ignore_index = [0, 255]\nclasses = [{name = 'road'}, {name = 'person', color = '#dc143c'}]\n"
        "[label_map]\n7 = 'road'\n'24-25' = 'person'\n'34-40' = 'ignore'\n",
        ".ids": "[[classes]]\nname = 'road'\nid = 7\n[[classes]]\nname = 'person'\nid = [24, 25]\n",
        ".txt": "# labels\n" + "".join(f"{label} {r} {g} {b}\n" for label, r, g, b in colours),
        ".csv": "name,r,g,b\n" + "".join(f"{label},{r},{g},{b}\n" for label, r, g, b in colours),
    }
    document = documents[kind].encode()
    name = f"classes{kind if kind in ('.txt', '.csv') else '.toml'}"
    fuzz(lambda draw: mutate.toml(draw, document), read_class_list, name)


def test_preprocessing(fuzz, mutate):
    def read(path):
        contract = read_contract(path)
        height, width = contract.network_size(5, 7)
        if height * width < 1 << 16:  # what is allowed and large is tested elsewhere
            prepared = contract.prepare(np.zeros((5, 7, 3), np.uint8))
            assert prepared.shape == (1, 3, height, width)
            assert contract.restore_labels(prepared, 5, 7).shape == (5, 7)

    fuzz(lambda draw: mutate.json(draw, CONTRACT), read, "preprocessing.json")


def test_metrics(fuzz, mutate):
    rows = [{"epoch": n, "loss": 0.5 / n, "miou": None, "iou": [0.5, None], "wall_s": 1.5, "pixels": 9} for n in (1, 2)]

    def make(draw):
        lines = [json.dumps(row).encode() for row in rows]
        row = draw.randrange(len(lines))
        lines[row] = mutate.json(draw, rows[row])
        return b"\n".join(lines) if draw.random() < 0.8 else mutate.toml(draw, b"\n".join(lines))

    fuzz(make, lambda path: RunDirectory(path.parent).metrics(), "metrics.jsonl")


def test_latency_table(fuzz, mutate):
    times = LayerTimes((8, 16), (4, 8), ((0.1, 0.2), (0.3, 0.4)), 1.5)
    table = LatencyTable(Machine("cpu", "onnxruntime 1", 1, "fp32"), (1, 3, 8, 8), {"conv": times}, 0.5, 8, 4)

    def read(path):
        found = LatencyTable.load(path)
        assert found.network_ms(dict.fromkeys(found.layers, (7, 3))) >= 0

    fuzz(lambda draw: mutate.json(draw, table.to_json()), read, "latency.json")


@pytest.fixture(scope="module")
def network():
    segmenter = build("python:prunekit.models.street:street_net?width=8", num_classes=3).eval()
    plan = arbitrary_plan(analyse(segmenter.network, (torch.zeros(1, 3, 32, 32),)), 0.5)
    return segmenter.network, plan.to_json()


def test_pruning_plan(fuzz, mutate, network):
    dense, plan = network

    def read(path):
        prune_(copy.deepcopy(dense), Plan.from_json(read_json(path)))

    fuzz(lambda draw: mutate.json(draw, plan), read, "plan.json")


def test_model_card(fuzz, mutate, network):
    classes = ShapesDataset("val", 1, height=32, width=32, seed=0).classes
    card = new_card(ModelConfig(), classes, Preprocessing(height=8, width=12))
    values = card.model_copy(update={"plan": network[1], "lineage": ({"step": "train"},)}).model_dump(mode="json")

    def read(path):
        read = read_card(RunDirectory(path.parent))
        if read.plan is not None:
            Plan.from_json(read.plan)
        assert parse_json(read.model_dump_json()) is not None

    fuzz(lambda draw: mutate.json(draw, values), read, "model.json")
