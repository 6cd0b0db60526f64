"""Networks trained elsewhere become runs: the same bits, the right preprocessing, and errors that say what to do."""

import json
import shutil
import sys

import pytest
import torch
from safetensors.torch import load_file

from prunekit.modelfile import load_model
from prunekit.models.zoo import build
from prunekit.run import RunDirectory

SHAPES = ("--data", "shapes", "--set", "data.val_images=4", "--set", "data.train_images=8", "--threads", "1")
STREET = "python:prunekit.models.street:street_net?width=4"
THEIRS = """
import torch

class Net(torch.nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.body = torch.nn.Sequential(torch.nn.Conv2d(3, 6, 3, padding=1), torch.nn.BatchNorm2d(6), torch.nn.ReLU())
        self.head = torch.nn.Conv2d(6, num_classes, 1)

    def forward(self, images):
        return self.head(self.body(images))
"""
NETWORKS = [
    STREET,
    "python:their_import_net:Net",
    "smp:Unet?encoder=resnet18&encoder_depth=3&decoder_channels=[16,8,8]",
    "torchvision:lraspp_mobilenet_v3_large",
]
IMAGES = torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(2))


@pytest.fixture
def their_module(tmp_path, monkeypatch):
    (tmp_path / "their_import_net.py").write_text(THEIRS)
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("their_import_net", None)


def trained(spec, num_classes):
    """Return a network of somebody's: no default of torch is left in it."""
    torch.manual_seed(3)
    segmenter = build(spec, num_classes=num_classes)
    for name, value in segmenter.state_dict().items():
        if value.is_floating_point():
            value.mul_(1 + 0.1 * torch.rand_like(value)).add_(0.01 if "running" in name else 0)
    return segmenter.eval()


@pytest.fixture
def num_classes():
    from prunekit.data.registry import open_dataset
    from prunekit.recipe import DataConfig

    return len(open_dataset(DataConfig(), "val").classes)


@pytest.mark.parametrize("spec", NETWORKS)
def test_import_changes_no_bit(invoke, tmp_path, their_module, num_classes, spec):
    theirs = trained(spec, num_classes)
    state = {"module." + name: value for name, value in theirs.network.state_dict().items()}
    torch.save({"epoch": 7, "state_dict": state}, tmp_path / "theirs.pth")
    result = invoke("import", "--model", spec, "--weights", "theirs.pth", "--size", "64x96", *SHAPES)
    assert result.exit_code == 0, result.output
    assert "from 'state_dict' in it, without 'module.' in front" in result.stderr
    assert "mIoU" in result.stdout
    run = RunDirectory(tmp_path / "runs/0001-import")
    written = load_file(run.weights_path)
    assert all(torch.equal(written[name], value) for name, value in theirs.network.state_dict().items())
    loaded = load_model(run, trust_code=True)
    with torch.no_grad():
        assert torch.equal(loaded.segmenter(IMAGES), theirs(IMAGES))


def test_an_imported_run_is_evaluated_pruned_and_trained_on(invoke, tmp_path, num_classes):
    torch.save(trained(STREET, num_classes).network.state_dict(), tmp_path / "a.pth")
    done = invoke("import", "--model", STREET, "--weights", "a.pth", "--size", "64x96", *SHAPES, "--mean", ".4,.5,.6")
    evaluated = invoke("eval", "runs/0001-import", "--threads", "1", "--json")
    assert json.loads(evaluated.stdout)["metrics"]["miou"] == pytest.approx(
        json.loads((tmp_path / "runs/0001-import/import.json").read_text())["scores"]["miou"], abs=1e-3
    )
    assert "prunekit prune runs/0001-import --ratio 0.5" in done.stderr
    pruned = invoke("prune", "--ratio", "0.3", "--align", "1", "--epochs", "1", "--batches", "1")
    assert pruned.exit_code == 0, pruned.output
    assert load_model(RunDirectory(tmp_path / "runs/0002-prune")).contract.mean == (0.4, 0.5, 0.6)
    refused = invoke("train", "--resume", "runs/0001-import")
    assert refused.exit_code == 2
    advised = refused.stderr.split("prunekit ")[-1].split()
    trained_on = invoke(*advised, "--epochs", "1")
    assert trained_on.exit_code == 0, trained_on.output
    assert "Taken: " in trained_on.stderr


def test_classes_alone_are_enough_to_export(invoke, tmp_path):
    (tmp_path / "voc.txt").write_text("road\nsky\ncar\n")
    torch.save(trained(STREET, 3).network.state_dict(), tmp_path / "a.pth")
    result = invoke("import", "--model", STREET, "--weights", "a.pth", "--size", "64x96", "--classes", "voc.txt")
    assert result.exit_code == 0, result.output
    assert "not evaluated" in result.stdout
    assert "Next: prunekit export runs/0001-import\n" in result.stderr
    assert load_model(RunDirectory(tmp_path / "runs/0001-import")).card.class_names == ("road", "sky", "car")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--weights", "a.pth"], "--model SPEC"),
        (["--model", STREET], "--weights FILE"),
        (["--model", STREET, "--weights", "a.pth"], "--classes FILE"),
        (["--model", STREET, "--weights", "a.pth", *SHAPES], "--size HEIGHTxWIDTH"),
        (["--model", STREET, "--weights", "a.pth", *SHAPES, "--size", "64"], "--size 360x480"),
        (["--model", STREET, "--weights", "no.pth", *SHAPES, "--size", "64x96"], "no.pth does not exist"),
        (
            ["--model", STREET, "--weights", "a.pth", *SHAPES, "--size", "64x96", "--mean", "1,2"],
            "--mean takes 3 values",
        ),
        (
            ["--model", STREET, "--weights", "a.pth", *SHAPES, "--size", "64x96", "--scale", "1/0"],
            "--scale takes a number",
        ),
        (["--model", STREET, "--weights", "a.pth", *SHAPES, "--size", "64x96", "--channels", "rbg"], "rgb or bgr"),
        (["--model", STREET, "--weights", "a.pth", *SHAPES, "--size", "64x96"], "does not fit the network"),
    ],
)
def test_a_refused_import_says_what_to_do_and_leaves_nothing(invoke, tmp_path, arguments, says):
    torch.save(trained(STREET, 2).network.state_dict(), tmp_path / "a.pth")
    result = invoke("import", *arguments)
    assert result.exit_code == 2
    assert says in result.stderr
    assert not list(tmp_path.glob("runs/*"))


def test_a_head_for_other_classes_begins_anew_where_that_is_allowed(invoke, tmp_path, num_classes):
    torch.save(trained(STREET, 2).network.state_dict(), tmp_path / "a.pth")
    given = ("import", "--model", STREET, "--weights", "a.pth", "--size", "64x96", *SHAPES)
    assert "--allow-missing 'classifier.*'" in invoke(*given).stderr
    other = invoke("import", "--model", STREET.replace("width=4", "width=8"), *given[3:])
    assert other.exit_code == 2
    assert "--allow-missing" not in other.stderr  # far more than a head differs
    result = invoke(*given, "--allow-missing", "classifier.*")
    assert result.exit_code == 0, result.output
    assert "not trained (2): 'classifier.weight'" in result.stderr


def test_a_folder_of_transformers_is_imported_whole_and_may_go(invoke, tmp_path, num_classes):
    transformers = pytest.importorskip("transformers")
    sizes = {"hidden_sizes": [8, 16, 32, 64], "depths": [1, 1, 1, 1], "decoder_hidden_size": 16}
    torch.manual_seed(3)
    config = transformers.SegformerConfig(num_labels=num_classes, **sizes)
    theirs = transformers.SegformerForSemanticSegmentation(config).eval()
    theirs.save_pretrained(tmp_path / "theirs")
    prepared = {"do_normalize": True, "image_mean": [0.1, 0.2, 0.3], "image_std": [0.5, 0.6, 0.7], "size": 64}
    (tmp_path / "theirs/preprocessor_config.json").write_text(json.dumps(prepared))
    result = invoke("import", "--model", "hf:theirs", *SHAPES)
    assert result.exit_code == 0, result.output
    assert "0.1, 0.2, 0.3 (theirs/preprocessor_config.json)" in result.stderr
    shutil.rmtree(tmp_path / "theirs")
    loaded = load_model(RunDirectory(tmp_path / "runs/0001-import"))  # without --trust-code
    assert (loaded.contract.height, loaded.contract.mean) == (64, (0.1, 0.2, 0.3))
    with torch.no_grad():
        assert torch.equal(loaded.segmenter.network(IMAGES).logits, theirs(IMAGES).logits)
    pruned = invoke("prune", "--ratio", "0.2", "--align", "1", "--epochs", "1", "--batches", "1")
    assert pruned.exit_code == 0, pruned.output
