import json
import xml.etree.ElementTree as ET

import pytest

MODEL = "python:prunekit.models.street:street_net?width=8"
SIZE = ("--height", "32", "--width", "64")


def test_the_table_names_groups_layers_and_reasons(invoke):
    result = invoke("inspect", MODEL, *SIZE, "--classes", "5")
    assert result.exit_code == 0
    assert "1  " in result.stdout
    assert "makes" in result.stdout
    assert "reads" in result.stdout
    assert "stays: reaches the network's output" in result.stdout
    assert "can be pruned" in result.stdout


def test_json_is_one_document_and_pictures_are_written(invoke, tmp_path):
    result = invoke("inspect", MODEL, *SIZE, "--graph", "net.svg", "--json")
    report = json.loads(result.stdout)
    assert report["model"] == MODEL
    assert report["input"] == [1, 3, 32, 64]
    assert report["groups"][0]["members"][0]["does"] == "makes"
    assert any(group["frozen"] for group in report["groups"])
    assert sum(group["width"] for group in report["groups"]) == report["channels"]
    assert ET.parse(tmp_path / "net.svg").getroot().tag.endswith("svg")
    assert "net.svg" in result.stderr
    invoke("inspect", MODEL, *SIZE, "--graph", "net.dot", "--json")
    assert (tmp_path / "net.dot").read_text().startswith("digraph")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "There is no run 'nowhere'"),
        (["smp:Nonsense"], "Nonsense"),
        ([MODEL, "--graph", "net.png"], ".svg"),
        ([MODEL, "--graph", "no/net.svg"], "does not exist"),
        ([MODEL, "--height", "0"], "--height"),
        ([MODEL, "--classes", "1"], "num_classes"),
        (["."], "model.json"),
        ([".", "--classes", "3"], "--classes"),
    ],
)
def test_a_wrong_request_is_one_sentence(invoke, arguments, message):
    result = invoke("inspect", *arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert result.stdout == ""


def test_a_run_is_inspected_with_its_own_classes_and_size(invoke, tmp_path):
    from prunekit.data.dataset import ClassMap
    from prunekit.modelfile import new_card, save_model
    from prunekit.models.zoo import build
    from prunekit.recipe import ModelConfig
    from prunekit.run import RunDirectory
    from prunekit_runtime.preprocessing import Preprocessing

    run = RunDirectory(tmp_path / "run")
    run.path.mkdir()
    classes = ClassMap(("a", "b", "c"), ((0, 0, 0), (1, 1, 1), (2, 2, 2)))
    contract = Preprocessing(height=48, width=64, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    save_model(run, build(MODEL, num_classes=3), new_card(ModelConfig(name=MODEL), classes, contract))
    report = json.loads(invoke("inspect", "run", "--json").stdout)
    assert report["input"] == [1, 3, 48, 64]
    assert any(group["frozen"] and group["width"] == 3 for group in report["groups"])
