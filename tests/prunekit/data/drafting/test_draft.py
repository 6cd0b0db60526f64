"""A drafted class list reads every mask it was drafted from, whatever they hold and whatever things are called."""

import numpy as np
import pytest
from PIL import Image

from prunekit.data.drafting.draft import draft, parse_ignore, write
from prunekit.data.labels.class_list import read_class_list
from prunekit.data.labels.masks import read_mask
from prunekit.errors import ConfigError, DataError

KINDS = ("grey", "palette", "16 bits", "colour")


def save(root, masks, kind, rng):
    """Write masks of a kind, with images of their names."""
    for part in ("images", "masks"):
        (root / part).mkdir(parents=True, exist_ok=True)
    shades = rng.permutation(256 * 3).reshape(256, 3) % 256
    for number, mask in enumerate(masks):
        if kind == "colour":
            image = Image.fromarray(shades[mask].astype(np.uint8))
        else:
            image = Image.fromarray(mask.astype(np.uint16 if kind == "16 bits" else np.uint8))
        if kind == "palette":
            image.putpalette(shades.astype(np.uint8).tobytes())
        image.save(root / "masks" / f"{number}.png")
        Image.new("RGB", (8, 8)).save(root / "images" / f"{number}.jpg")


@pytest.mark.drawn(40)
def test_a_drafted_list_reads_its_masks_and_names_every_value(tmp_path, seed):
    rng = np.random.default_rng(seed)
    kind = KINDS[seed % len(KINDS)]
    values = np.sort(rng.choice(256, rng.integers(2, 9), replace=False))
    if seed % 3 == 0:
        values = np.append(np.arange(len(values)), 255)
    masks = [rng.choice(values, (8, 8)) for _ in range(3)]
    masks[0].flat[: len(values)] = values
    save(tmp_path, masks, kind, rng)
    write(drafted := draft(tmp_path), tmp_path)
    assert len(drafted.found) == len(values)
    listed = read_class_list(tmp_path / "classes.toml")
    ignored = sum(found.becomes == "not counted" for found in drafted.found)
    assert len(listed.classes) + ignored == len(values)
    assert ignored == (kind != "colour" and 255 in values and set(values.tolist()) != {0, 255})
    labels = [read_mask(tmp_path / "masks" / f"{number}.png", listed) for number in range(3)]
    seen = np.unique(np.stack(labels))
    assert seen.tolist() == [*range(len(listed.classes)), *([255] * ignored)]
    for mask, label in zip(masks, labels, strict=True):  # one label a value, and one value a label
        assert len(np.unique(np.stack([mask, label]).reshape(2, -1), axis=1).T) == len(np.unique(mask))


def test_names_of_folders_cannot_break_out_of_a_comment(tmp_path):
    root = tmp_path / 'a\nname = "b"\x1b[31m \udce9'
    save(root, [np.eye(8, dtype=int)], "grey", np.random.default_rng(0))
    write(draft(root), root)
    assert read_class_list(root / "classes.toml").classes.names == ("class_0", "class_1")


def test_a_table_with_ids_names_the_numbers(tmp_path):
    save(tmp_path, [np.array([[7, 8, 33] * 2] * 8)], "grey", np.random.default_rng(0))
    (tmp_path / "label_colors.txt").write_text("id,name\n33,bicycle\n7,road\n8,pavement\n0,unlabeled\n")
    write(draft(tmp_path), tmp_path)
    listed = read_class_list(tmp_path / "classes.toml")
    assert listed.classes.names == ("road", "pavement", "bicycle")
    assert read_mask(tmp_path / "masks/0.png", listed)[0].tolist() == [0, 1, 2, 0, 1, 2]


def test_a_mask_that_cannot_be_read_is_left_out_and_said(tmp_path):
    save(tmp_path, [np.eye(8, dtype=int)] * 2, "grey", np.random.default_rng(0))
    (tmp_path / "masks/1.png").write_bytes(b"")
    drafted = draft(tmp_path)
    assert drafted.masks == 1
    assert "1 mask cannot be read" in drafted.notes[0]
    (tmp_path / "masks/0.png").write_bytes(b"")
    with pytest.raises(DataError, match="No mask can be read"):
        draft(tmp_path)


def test_too_many_values_are_no_classes(tmp_path):
    save(tmp_path, [np.arange(300).reshape(20, 15)], "16 bits", np.random.default_rng(0))
    with pytest.raises(DataError, match="at most 255 classes"):
        draft(tmp_path)


def test_what_is_ignored_is_a_number_a_colour_or_none():
    assert parse_ignore("255") == 255
    assert parse_ignore("1, 2,3") == (1, 2, 3)
    assert parse_ignore("none") is parse_ignore(None) is None
    for text in ("void", "1,2", "1,2,256", "-1", "123456", "1" * 5000):
        with pytest.raises(ConfigError):
            parse_ignore(text)
