import dataclasses

import pytest

from prunekit_cli.showing import output

TINY = {
    "train_epochs": 1,
    "tune_epochs": 1,
    "train_images": 8,
    "val_images": 4,
    "height": 32,
    "width": 48,
    "model": "python:prunekit.models.street:street_net?width=16",
    "threads": 1,
    "runs": 3,
    "device": "cpu",
}


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    pytest.importorskip("onnxruntime", reason="the demo measures ONNX files")
    from prunekit_export.demo import DemoConfig, run_demo

    return run_demo(tmp_path_factory.mktemp("demo"), DemoConfig(**TINY))


def test_three_networks_are_measured(report):
    dense, pruned, folded = report.rows
    assert [row.name for row in report.rows] == ["dense", "pruned", "pruned, folded"]
    assert pruned.macs == pytest.approx(dense.macs / 2, rel=0.1)
    assert folded.params < pruned.params < dense.params
    assert dense.speed_up == 1
    assert max(row.parity_max_rel for row in report.rows) < 1e-4
    assert all(0 <= row.miou <= 1 for row in report.rows)


def test_the_miou_is_that_of_the_file_and_agrees_with_torch(report):
    from prunekit.run import RunDirectory

    trained = RunDirectory(report.out / "train").metrics()[-1]["miou"]
    assert report.rows[0].miou == pytest.approx(trained, abs=1e-2)  # trained in bf16 where there is some


def test_the_picture_shows_image_truth_and_each_network(report):
    from PIL import Image

    from prunekit_export.demo.picture import MARGIN

    with Image.open(report.picture) as picture:
        assert picture.width == 5 * (48 + MARGIN) + MARGIN
        assert picture.height > 4 * 32


def test_the_report_is_json_and_shown(report, capsys):
    from prunekit_cli.commands.demo import _show

    output.show_json(report)
    _show(dataclasses.replace(report, wall_s=61.0))
    shown = capsys.readouterr().out
    assert '"pruned, folded"' in shown
    assert "1 min 01 s in all" in shown
    assert report.engines in shown
