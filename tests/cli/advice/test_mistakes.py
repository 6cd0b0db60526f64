"""Plausible mistakes: each gets one message in our words that says what to do, and exit code 2 for wrong use.

Exit code 1 is for what was asked for rightly and failed: damaged files, no space, a proof that does not hold.
"""

import re
import shlex
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from typer.testing import CliRunner

from prunekit_cli.main import app


@dataclass(frozen=True)
class Mistake:
    """A command line, what its error names, and what it says to do (regular expressions)."""

    line: str
    what: str
    do: str
    code: int = 2


SIZE = "--data folder --root street --size 64x96"
IMPORT = f"import --model smp:FPN --weights last.ckpt {SIZE}"
PRUNE = "prune runs/0001-train"

MISTAKES = [
    # A typo in each kind of name.
    Mistake("trian", "trian", "train"),
    Mistake("train --epoch 3", "--epoch", "--epochs"),
    Mistake("train --model smp:Unett?encoder=resnet18", "Unett", r"Unet\b"),
    Mistake("train --model smp:Unet?encoder=resnet81", "resnet81", "resnet18"),
    Mistake("train --model smp:Unet?encodr=resnet18", "encodr", "encoder"),
    Mistake("train --model torchvision:lraspp_mobilenet_v3", "lraspp_mobilenet_v3", "lraspp_mobilenet_v3_large"),
    Mistake("train --model tochvision:lraspp_mobilenet_v3_large", "tochvision", "torchvision"),
    Mistake("train --model python:mynets.tinny:build", r"mynets\.tinny", "python:|install|path|module"),
    Mistake("train --model python:mynets.tiny:biuld", "biuld", "build"),
    Mistake("train --data camvit", "camvit", "camvid"),
    Mistake("train --head css", "css", "ccs"),
    Mistake("train --precision bf61", "bf61", "bf16"),
    Mistake("train --select pbf", "pbf", "pfb"),
    Mistake("train --device cude", "cude", "cuda"),
    Mistake("train --set train.epoch=3", r"train\.epoch\b", r"epochs"),
    Mistake("train --set tain.epochs=3", "tain", r"train\b"),
    Mistake("train --set epochs=3", "epochs=3", r"section\.key=value|--set"),
    Mistake(f"{PRUNE} --criterion sirpf", "sirpf", "sirfp"),
    Mistake(f"{PRUNE} --schedule one_shot", "one_shot", "one-shot"),
    Mistake(f"{PRUNE} --allocation unifrom", "unifrom", "uniform"),
    Mistake("export runs/0001-train --precision int4", "int4", "int8"),
    Mistake("export runs/0001-train --fold exakt", "exakt", "exact"),
    Mistake("eval runs/0001-train --split tset", "tset", "test"),
    Mistake("eval model.onnx --data shapes --provider gpu", "gpu", "cuda"),
    Mistake("predict runs/0001-train photos --as overlays", "overlays", "overlay"),
    # A wrong path, or something else than belongs there.
    Mistake("eval runs/0001-trian", "0001-trian", "0001-train"),
    Mistake("train --recipe mein.toml", r"mein\.toml", "recipe"),
    Mistake("train --data camvid --root camvit", "camvit", "root|folder"),
    Mistake("train --data camvid", "root", "--root"),
    Mistake("train --data folder --root nothing", "nothing", r"train/images|class list|classes"),
    Mistake("import --model smp:FPN --weights bets.pth " + SIZE, r"bets\.pth", "[Nn]o such file|does not exist"),
    Mistake(f"{IMPORT} --classes vok.txt", r"vok\.txt", "does not exist|[Nn]o such file"),
    Mistake(f"{IMPORT} --classes wrong.toml", "names", "classes"),
    Mistake("predict runs/0001-train fotos", "fotos", "does not exist|[Nn]o such|[Nn]ame"),
    Mistake("predict runs/0001-train nothing", "nothing", "folder or pattern"),
    Mistake("train --out photos", "photos", "new folder|another"),
    Mistake("prune photos", "photos", "0001-train|prunekit train"),
    Mistake("prune model.onnx", r"model\.onnx", "run"),
    Mistake("eval voc.txt --data shapes", r"voc\.txt", r"\.onnx|[Ww]rite one"),
    Mistake("prune --resume runs/0001-train", "0001-train", "prunekit train --resume runs/0001-train"),
    Mistake("train --resume runs/0002-prune", "0002-prune", "prunekit prune --resume runs/0002-prune"),
    Mistake("train --resume runs/0001-train --epochs 40", "epochs", "[Ll]eave"),
    Mistake("import --model hf:nothing --weights last.ckpt " + SIZE, "nothing", r"folder|config\.json"),
    Mistake("data check --root street/classes.txt", "is a file", r"Did you mean street\?"),
    Mistake("data check --root street --classes street", "is a folder", "--classes"),
    Mistake("data init nosuch", "nosuch", "folder that holds the masks"),
    Mistake("status nosuch", "nosuch", "0001-train"),
    # Out of range, or in another form.
    Mistake("data check --root street --ignore-index 300000", "300000", "0 to 65535"),
    Mistake("data check --root street --size 999999999999x3", "999999999999x3", "32 to 16384"),
    Mistake("train --epochs 0", "epochs", "1"),
    Mistake("train --epochs many", "many", "number|integer"),
    Mistake("train --set train.lr=-1", r"lr", "0"),
    Mistake(f"{PRUNE} --ratio 1.5", r"1\.5", "ratio"),
    Mistake(f"{PRUNE} --ratio 50%", "50%", "number|float"),
    Mistake(f"{PRUNE} --target-latency 8", "8", "8ms"),
    Mistake(f"{PRUNE} --target-macs 2.5X", r"2\.5X", r"2\.5G"),
    Mistake(f"{PRUNE} --ratio 0.5 --target-macs 1M", "ratio", "one target|[Ll]eave"),
    Mistake(f"{PRUNE} --stages 0.6,0.3 --schedule iterative", "stages", r"0\.3,\s*0\.6"),
    Mistake(IMPORT.replace("64x96", "512"), "512", r"\d+x\d+"),
    Mistake(f"{IMPORT} --mean 1,2", "mean", "three|3"),
    Mistake(f"{IMPORT} --channels rbg", "rbg", "rgb"),
    Mistake("profile runs/0001-train --runs 0", "runs|0", "1"),
    Mistake("inspect smp:FPN --classes 0", "classes|0", "1"),
    # Not enough, or too much.
    Mistake("import --weights last.ckpt " + SIZE, "network", "--model"),
    Mistake("import --model smp:FPN " + SIZE, "weights", "--weights"),
    Mistake("eval", "MODEL", "Missing|Name"),
    Mistake("export runs/0001-train --dynamic --batch 2", "dynamic", "[Ll]eave"),
    # Failures of what was rightly asked for.
    Mistake("eval spoilt", "SHA-256|damaged", "again|--resume", code=1),
    Mistake("train --data camvid --root torn --batch-size 2", r"0\.png", "damaged|cannot be read|again", code=1),
]

NOT_OURS = re.compile(
    r"Traceback|Value error|[Ii]nput should|validation error|pydantic|Extra inputs|[Uu]nable to parse|Exception"
    r"|loc=|type=|NoneType|<class|errno|torch\.Size|\bKeyError|object at 0x"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, enter_world) -> Iterator[Path]:
    here = tmp_path_factory.mktemp("mistakes") / "here"
    with enter_world(here, shrunk=False):
        Path("nothing").mkdir()
        Path("hub").mkdir()
        Path("hub/config.json").write_text('{"model_type": "segformer"}')
        Path("street.mp4").write_bytes(b"no video")
        Path("wrong.toml").write_text("names = ['road', 'sky', 'car']\n")
        for copy, file in (("spoilt", "model.safetensors"), ("torn", "train/0.png")):
            source = Path("runs/0001-train" if copy == "spoilt" else "camvid")
            shutil.copytree(source, copy)
            content = (source / file).read_bytes()
            Path(copy, file).unlink()
            Path(copy, file).write_bytes(content[: len(content) // 2])
        yield here


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.line)
def test_a_mistake_gets_one_message_that_says_what_to_do(folder, mistake):
    check(folder, mistake)


def check(folder: Path, mistake: Mistake) -> None:
    before = sorted(folder.rglob("*"))
    result = CliRunner().invoke(app, shlex.split(mistake.line), env={"COLUMNS": "200", "TERM": "dumb"})
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    said = " ".join(result.stderr.split())
    assert result.exit_code == mistake.code, said
    assert len(re.findall(r"\bError\b", said)) == 1, said
    assert re.search(mistake.what, said), said
    assert re.search(mistake.do, said.split("Error", 1)[1]), said
    assert NOT_OURS.search(said) is None, said
    if mistake.code == 2:
        assert "changed by" not in said, "what a command is about to do is shown only once that can be done"
    assert result.stdout == ""
    assert sorted(folder.rglob("*")) == before


MISSING = [
    ("transformers", Mistake("import --model hf:hub --weights last.ckpt " + SIZE, "transformers", r"prunekit\[hf\]")),
    ("onnxruntime", Mistake("eval model.onnx --data shapes", "ONNX Runtime|onnxruntime", r"prunekit\[ort\]")),
    ("cv2", Mistake("predict runs/0001-train street.mp4", "OpenCV|cv2", r"prunekit\[video\]")),
]


@pytest.mark.parametrize(("package", "mistake"), MISSING, ids=[package for package, _ in MISSING])
def test_a_missing_package_is_named_with_its_extra(folder, monkeypatch, package, mistake):
    monkeypatch.setitem(sys.modules, package, None)
    check(folder, mistake)
