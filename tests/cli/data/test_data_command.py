"""`prunekit data check` names every planted fault; `data init` writes a class list that training takes."""

import json
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.main import get_command

from prunekit.data.registry import open_dataset
from prunekit.recipe import DataConfig
from prunekit_cli.commands import data
from prunekit_cli.main import app

SIDE = 40
COLOURS = np.array([(0, 0, 0), (220, 20, 60), (70, 130, 180), (250, 170, 30)], dtype=np.uint8)
TRAIN = ("--model=python:prunekit.models.street:street_net?width=8", "--epochs=1", "--batch-size=2", "--device=cpu")
SMALL = ("--set=data.height=32", "--set=data.width=32", "--threads=1")


def areas(rng, values, side=SIDE):
    """Return a mask of rectangles on the first value, in which each value has a pixel."""
    mask = np.full((side, side), values[0], dtype=np.uint16)
    mask[: 2 * side // 3] = values[1]
    for place, value in enumerate(values[1:]):
        top, left = rng.integers(0, side // 2, 2)
        mask[top : top + side // 2, left : left + side // 2] = value
        mask[0, 3 * place : 3 * place + 3] = value
    return mask


def save_mask(path, mask, how):
    path.parent.mkdir(parents=True, exist_ok=True)
    if how == "colour":
        Image.fromarray(COLOURS[mask]).save(path)
        return
    image = Image.fromarray(mask.astype(np.uint8))
    if how == "palette":
        image.putpalette(np.roll(COLOURS, 1, axis=0).tobytes())
    elif how == "grey palette":
        image.putpalette(np.arange(256, dtype=np.uint8).repeat(3).tobytes())
    image.save(path)


def folder(root, values=(0, 1, 2, 3), how="grey", counts=(("train", 4), ("val", 2))):
    """Write a folder data set without a class list."""
    rng = np.random.default_rng(0)
    for split, count in counts:
        for number in range(count):
            mask = areas(rng, values)
            save_mask(root / split / "masks" / f"{split}{number}.png", mask, how)
            pixels = rng.integers(0, 256, (*mask.shape, 3), dtype=np.uint8)
            (root / split / "images").mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(root / split / "images" / f"{split}{number}.png")
    return root


def listed(root, names=("void", "road", "sky", "car")):
    (root / "classes.txt").write_text("\n".join(names))
    return root


def checked(invoke, *arguments):
    """Return the exit code and the report of a check."""
    result = invoke("data", "check", *arguments, "--json")
    return result.exit_code, json.loads(result.stdout)


def kinds(report, level):
    return {found["kind"] for found in report["findings"] if found["level"] == level}


def finding(report, kind):
    (found,) = [found for found in report["findings"] if found["kind"] == kind]
    return found


def test_a_folder_without_faults_is_fine(invoke, tmp_path):
    listed(folder(tmp_path / "set"))
    code, report = checked(invoke, "--root=set", "--size=40x40")
    assert code == 0
    assert report["fine"] is True
    assert kinds(report, "mend") == set()
    train = report["splits"][0]
    assert (train["samples"], train["image_sizes"], train["mask_formats"]) == (4, {"40x40": 4}, {"PNG grey": 4})
    assert train["images_by_class"] == [4, 4, 4, 4]
    assert sum(train["labels"]["pixels"]) == 4 * SIDE * SIDE
    result = invoke("data", "check", "--root=set", "--size=40x40")
    assert result.exit_code == 0
    assert "Nothing to mend." in result.stdout


def plant_unmatched(root):
    (root / "train/images/train0.png").unlink()
    (root / "val/masks/val1.png").rename(root / "val/masks/val1_mask.png")
    return {"masks_alone": ["train0.png", "val1_mask.png"], "images_alone": ["val1.png"]}


def plant_damage(root):
    for name in ("train1.png", "train2.png"):
        path = root / "train/images" / name
        path.write_bytes(path.read_bytes()[:200])
    (root / "train/masks/train3.png").write_bytes(b"no picture")
    return {"unreadable_images": ["train1.png", "train2.png"], "unreadable_masks": ["train3.png"]}


def plant_numbers(root):
    for number, value in ((0, 9), (2, 77)):
        path = root / f"train/masks/train{number}.png"
        mask = np.array(Image.open(path))
        mask[5:8, 5:8] = value
        Image.fromarray(mask).save(path)
    return {"unknown_values": ["train0.png", "train2.png"]}


def plant_sizes(root):
    path = root / "train/images/train1.png"
    Image.open(path).resize((SIDE, SIDE // 2)).save(path)
    for part in ("images", "masks"):
        path = root / "train" / part / "train2.png"
        Image.open(path).crop((0, 0, 20, 30)).save(path)
    path = root / "train/images/train2.png"
    Image.open(path).transpose(Image.Transpose.ROTATE_90).save(path)
    return {"different_sizes": ["train1.png"], "swapped_sizes": ["train2.png"]}


def plant_rotation(root):
    path = root / "val/images/val0.png"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.open(path).save(path.with_suffix(".jpg"), exif=exif)
    path.unlink()
    return {"turned_by_exif": ["val0.jpg"]}


def plant_leak(root):
    Image.open(root / "train/images/train1.png").save(root / "val/images/val1.bmp")  # of the same pixels
    (root / "val/images/val1.png").unlink()
    return {"duplicates_across_splits": ["train1.png", "val1.bmp"]}


def plant_twins(root):
    Image.open(root / "train/images/train1.png").save(root / "train/images/train1.jpg")
    return {"in_the_way": ["train1"]}


def plant_jpeg_masks(root):
    for path in (root / "val/masks").iterdir():
        Image.open(path).convert("L").save(path.with_suffix(".jpg"))
        path.unlink()
    return {"images_alone": ["val0.png", "val1.png"], "empty_split": []}


@pytest.mark.parametrize(
    "plant",
    [
        plant_unmatched,
        plant_damage,
        plant_numbers,
        plant_sizes,
        plant_rotation,
        plant_leak,
        plant_twins,
        plant_jpeg_masks,
    ],
)
def test_every_planted_fault_is_found_and_named(invoke, tmp_path, plant):
    root = listed(folder(tmp_path / "set"))
    planted = plant(root)
    code, report = checked(invoke, "--root=set", "--size=40x40")
    assert code == 1
    assert report["fine"] is False
    assert kinds(report, "mend") == planted.keys()
    for kind, names in planted.items():
        files = " ".join(file for found in report["findings"] if found["kind"] == kind for file in found["files"])
        for name in names:
            assert name in files, (kind, name, files)


def test_all_faults_are_found_together_and_shown_to_a_person(invoke, tmp_path):
    root = listed(folder(tmp_path / "set", counts=(("train", 6), ("val", 3))))
    planted = plant_unmatched(root) | plant_damage(root) | plant_rotation(root)
    code, report = checked(invoke, "--root=set", "--size=40x40")
    assert code == 1
    assert planted.keys() <= kinds(report, "mend")
    result = invoke("data", "check", "--root=set", "--size=40x40")
    assert result.exit_code == 1
    for names in planted.values():
        for name in names:
            assert name in result.stdout
    assert "to mend, see above" in result.stderr


def test_numbers_that_are_no_class_are_counted(invoke, tmp_path):
    plant_numbers(listed(folder(tmp_path / "set")))
    _, report = checked(invoke, "--root=set", "--size=40x40")
    unknown = {found["value"]: found for found in report["splits"][0]["unknown"]}
    assert {value: (found["pixels"], found["masks"]) for value, found in unknown.items()} == {9: (9, 1), 77: (9, 1)}
    assert unknown[77]["example"].endswith("train2.png")
    assert "9 " in invoke("data", "check", "--root=set").stdout


def test_colours_that_are_no_class_are_counted(invoke, tmp_path):
    root = folder(tmp_path / "set", how="colour")
    (root / "classes.csv").write_text("void,0,0,0\nroad,220,20,60\nsky,70,130,180\n")
    code, report = checked(invoke, "--root=set", "--size=40x40")
    assert code == 1
    (unknown,) = report["splits"][0]["unknown"]
    assert unknown["value"] == [250, 170, 30]
    assert unknown["masks"] == 4


def test_masks_of_0_and_255_are_lost_labels(invoke, tmp_path):
    listed(folder(tmp_path / "set", values=(255, 0)), ("background", "object"))
    code, report = checked(invoke, "--root=set")
    assert code == 1
    assert "--set data.mask_values=0,255" in next(f["text"] for f in report["findings"] if f["kind"] == "labels")
    code, report = checked(invoke, "--root=set", "--set", "data.mask_values=0,255")
    assert (code, kinds(report, "mend")) == (0, set())


def test_what_may_be_meant_is_said_and_no_fault(invoke, tmp_path):
    root = listed(folder(tmp_path / "set"))
    mask = np.array(Image.open(root / "val/masks/val0.png"))
    for number in (0, 1):
        Image.fromarray(np.where(mask == 3, 0, mask).astype(np.uint8)).save(root / f"val/masks/val{number}.png")
    (root / "train/images/notes.md").write_text("")
    code, report = checked(invoke, "--root=set", "--size=128x128")
    assert code == 0
    assert kinds(report, "look") == {"small_images", "absent_classes", "other_files"}
    assert "'car'" in finding(report, "absent_classes")["text"]


def test_a_class_in_no_mask_is_to_mend_unless_it_is_allowed(invoke, tmp_path):
    listed(folder(tmp_path / "set", values=(0, 1, 2)))
    code, report = checked(invoke, "--root=set")
    assert code == 1
    assert "'car'" in finding(report, "labels")["text"]
    assert checked(invoke, "--root=set", "--set", "data.allow_absent_classes=true")[0] == 0


def test_smoothed_masks_are_noticed(invoke, tmp_path):
    root = listed(folder(tmp_path / "set", values=tuple(range(8))), map(str, range(8)))
    for path in (root / "val/images").iterdir():  # whose masks stay as they were drawn
        for one in (path, root / "val/masks" / path.name):
            Image.open(one).resize((4 * SIDE, 4 * SIDE), Image.Resampling.NEAREST).save(one)
    for path in (root / "train/masks").iterdir():
        big = Image.open(path).resize((4 * SIDE, 4 * SIDE), Image.Resampling.NEAREST)
        big.resize((SIDE + 7, SIDE + 7), Image.Resampling.BILINEAR).resize(
            (4 * SIDE, 4 * SIDE), Image.Resampling.BILINEAR
        ).save(path)
        image = root / "train/images" / path.name
        Image.open(image).resize((4 * SIDE, 4 * SIDE)).save(image)
    _, report = checked(invoke, "--root=set")
    found = finding(report, "smoothed_masks")
    assert (found["split"], len(found["files"])) == ("train", 4)


def test_a_run_is_checked_by_its_own_recipe(invoke, tmp_path):
    listed(folder(tmp_path / "set"))
    assert invoke("train", "--data=folder", "--root=set", *TRAIN, *SMALL, "--out=run").exit_code == 0
    code, report = checked(invoke, "run")
    assert code == 0
    assert (report["size"], report["classes"]) == ("32x32", ["void", "road", "sky", "car"])
    assert invoke("data", "check", "run", "--recipe=run/recipe.toml").exit_code == 2


def test_generated_scenes_are_checked_too(invoke):
    code, report = checked(invoke, "--set=data.train_images=6", "--set=data.val_images=3")
    assert code == 0
    assert [split["samples"] for split in report["splits"]] == [6, 3, 3]


def test_files_are_found_by_patterns_and_in_folders_below(invoke, tmp_path):
    folder(tmp_path / "set")
    for split in ("train", "val"):
        (tmp_path / "set" / split / "images").rename(tmp_path / "set" / split / "photos")
        (tmp_path / "set" / split / "masks/deep").mkdir()
        for path in (tmp_path / "set" / split / "masks").glob("*.png"):
            path.rename(path.parent / "deep" / f"{path.stem}_mask.png")
    patterns = ("--images", "{split}/photos/{name}.png", "--masks", "{split}/masks/deep/{name}_mask.png")
    result = invoke("data", "init", "set", *patterns)
    assert result.exit_code == 0, result.stderr
    check, train = next_commands(result)
    assert checked(invoke, *check[2:])[0] == 0
    assert invoke(*train).exit_code == 0
    (tmp_path / "set/train/masks/deep/train1_mask.png").unlink()
    code, report = checked(invoke, "--root=set", *patterns)
    assert code == 1
    assert "train1.png" in finding(report, "images_alone")["files"][0]


def test_a_data_set_class_of_one_s_own_is_checked(invoke, tmp_path, monkeypatch):
    (tmp_path / "mine_checked.py").write_text(
        "import numpy as np\n"
        "class Squares:\n"
        "    classes = ('no', 'yes')\n"
        "    def __init__(self, root, split): self.count = {'train': 4, 'val': 2}[split]\n"
        "    def __len__(self): return self.count\n"
        "    def __getitem__(self, i):\n"
        "        labels = np.zeros((40, 40), np.uint8); labels[i:20] = 1\n"
        "        return np.full((40, 40, 3), 9 * i + self.count, np.uint8), labels\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    code, report = checked(invoke, "--data=python:mine_checked:Squares")
    assert (code, report["classes"]) == (0, ["no", "yes"])
    assert [(split["split"], split["samples"]) for split in report["splits"]] == [("train", 4), ("val", 2)]


def test_a_sheet_is_drawn_and_never_written_over(invoke, tmp_path):
    listed(folder(tmp_path / "set"), ("void", "road", "天空", "car"))
    result = invoke("data", "check", "--root=set", "--sheet=sheet.png")
    assert result.exit_code == 0, result.stderr
    with Image.open(tmp_path / "sheet.png") as sheet:
        colours = {colour for _, colour in sheet.convert("RGB").getcolors(1 << 24)}
    from prunekit.data.labels.class_list import made_up_palette

    assert set(made_up_palette(4)) <= colours
    before = (tmp_path / "sheet.png").read_bytes()
    result = invoke("data", "check", "--root=set", "--sheet=sheet.png")
    assert result.exit_code == 2
    assert "--overwrite" in result.stderr
    assert (tmp_path / "sheet.png").read_bytes() == before
    assert invoke("data", "check", "--root=set", "--sheet=sheet.png", "--overwrite").exit_code == 0
    assert "PNG" in invoke("data", "check", "--root=set", "--sheet=sheet.jpg").stderr


def test_letters_that_no_font_has_are_said_to_be_escapes(invoke, tmp_path, monkeypatch):
    from prunekit.pictures import lettering

    monkeypatch.setattr(lettering, "_SYSTEM_FONTS", ())
    listed(folder(tmp_path / "set"), ("void", "road", "天空", "car"))
    assert "天空" in invoke("data", "check", "--root=set", "--sheet=sheet.png").stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--root=nowhere"], "does not exist"),
        (["--root=set", "--size=512"], "--size"),
        (["--root=set", "--set", "train.lr=1"], "has no effect here"),
        (["--root=set", "--classes=none.txt"], "does not exist"),
        (["--data=camvod"], "data.name"),
        (["nowhere"], "does not exist"),
    ],
)
def test_a_wrong_request_gets_one_sentence(invoke, tmp_path, arguments, message):
    (tmp_path / "set").mkdir()
    result = invoke("data", "check", *arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stderr.count("Error:") == 1
    assert result.stdout == ""


@pytest.mark.parametrize("arguments", [["data", "check", "--sise=3"], ["data", "chekc"], ["data", "init"]])
def test_wrong_usage_in_the_group_is_said_by_typer(invoke, arguments):
    result = invoke(*arguments)
    assert result.exit_code == 2
    assert "Usage: " in result.stderr


def test_help_names_the_exit_codes_and_examples_name_only_options_that_exist():
    group = get_command(app).commands["data"]
    assert "Exit code 1" in group.commands["check"].help
    for name, examples in (("check", data.CHECK_EXAMPLES), ("init", data.INIT_EXAMPLES)):
        known = {option for parameter in group.commands[name].params for option in parameter.opts}
        assert all(parameter.help for parameter in group.commands[name].params)
        for example in examples:
            words = shlex.split(example.split(">")[0])
            assert words[:3] == ["prunekit", "data", name]
            assert {word for word in words if word.startswith("--")} <= known


def next_commands(result):
    """Return the commands that a `Next:` line names, word by word: a check and a training."""
    lines = [line.split(":", 1)[1] for line in result.stderr.splitlines() if line.startswith(("Next:", "then:"))]
    check, train = (shlex.split(line)[1:] for line in lines)
    return check, [*train, *TRAIN, *SMALL]


CASES = {
    "numbers": ((0, 1, 2, 3), "grey", (), 4, False),
    "numbers and void": ((0, 1, 2, 255), "grey", (), 3, True),
    "black and white": ((0, 255), "grey", (), 2, False),
    "palette": ((0, 1, 2, 3), "palette", (), 4, False),
    "colours": ((0, 1, 2, 3), "colour", (), 4, False),
    "void is 0": ((0, 1, 2, 3), "grey", ("--ignore=0",), 3, True),
    "void is 0, palette": ((0, 1, 2, 3), "palette", ("--ignore=0",), 3, True),
    "void is a colour": ((0, 1, 2, 3), "colour", ("--ignore=0,0,0",), 3, True),
    "255 is a class": ((0, 1, 255), "grey", ("--ignore=none",), 3, False),
    "gaps": ((0, 7, 26, 255), "grey", (), 3, True),
    "255 by a palette": ((0, 255), "grey palette", (), 2, False),
}
TRAINED = ("black and white", "void is 0, palette", "void is a colour", "gaps")


@pytest.mark.parametrize("case", CASES)
def test_check_and_training_take_the_class_list_at_once(invoke, tmp_path, case):
    values, how, arguments, classes, ignored = CASES[case]
    folder(tmp_path / "my set", values, how)
    result = invoke("data", "init", "my set", *arguments)
    assert result.exit_code == 0, result.stderr
    check, train = next_commands(result)
    code, report = checked(invoke, *check[2:])
    assert code == 0, report["findings"]
    assert report["classes"] == [f"class_{place}" for place in range(classes)]
    counted = report["splits"][0]["labels"]
    assert (counted["ignored"] > 0) == ignored
    assert all(counted["pixels"])
    assert sum(counted["pixels"]) + counted["ignored"] == 4 * SIDE * SIDE
    if case in TRAINED:
        assert invoke(*train).exit_code == 0


@pytest.mark.parametrize("how", ["grey", "colour"])
def test_names_of_a_table_are_used_where_it_fits(invoke, tmp_path, how):
    root = folder(tmp_path / "set", how=how)
    (root / "class_dict.csv").write_text(
        "name,r,g,b\nvoid,0,0,0\nroad,220,20,60\nsky,70,130,180\nÜberweg, 250,170,30\nrest,1,2,3\n"
    )
    (root / "labels.txt").write_text("one\ntwo\n")
    (root / "train.txt").write_text("train0\ntrain1\n")
    result = invoke("data", "init", "set")
    assert result.exit_code == 0
    assert "class_dict.csv" in result.stderr
    opened = open_dataset(DataConfig(name="folder", root=str(root)), "train")
    assert opened.classes.names == ("void", "road", "sky", "Überweg")
    assert opened.classes.palette[1] == (220, 20, 60)


def test_init_reads_the_other_layout(invoke, tmp_path):
    folder(tmp_path / "all", counts=(("train", 8),))
    (tmp_path / "all/train").rename(tmp_path / "set")
    result = invoke("data", "init", "set")
    assert "8 masks" in result.stdout
    for command in next_commands(result):
        assert invoke(*command).exit_code == 0


def test_init_never_writes_over_a_class_list(invoke, tmp_path):
    folder(tmp_path / "set")
    assert invoke("data", "init", "set").exit_code == 0
    mine = 'classes = [{ name = "mine" }]\n'
    (tmp_path / "set/classes.toml").write_text(mine)
    result = invoke("data", "init", "set")
    assert result.exit_code == 2
    assert "--overwrite" in result.stderr
    assert (tmp_path / "set/classes.toml").read_text() == mine
    assert invoke("data", "init", "set", "--overwrite").exit_code == 0
    (tmp_path / "set/classes.txt").write_text("mine\n")
    assert "is a class list already" in invoke("data", "init", "set", "--force").stderr


def test_init_says_when_masks_hold_no_classes(invoke, tmp_path):
    root = folder(tmp_path / "set", how="colour")
    rng = np.random.default_rng(1)
    Image.fromarray(rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)).save(root / "train/masks/train0.png")
    result = invoke("data", "init", "set")
    assert result.exit_code == 1
    assert "smoothed or saved lossily" in result.stderr
    folder(root, how="grey", counts=(("train", 1),))
    assert "Save all in one way" in invoke("data", "init", "set").stderr
    assert "No mask holds 9" in invoke("data", "init", str(folder(tmp_path / "other")), "--ignore=9").stderr
    assert "--ignore takes" in invoke("data", "init", "other", "--ignore=void").stderr
    assert not Path("set/classes.toml").exists()
