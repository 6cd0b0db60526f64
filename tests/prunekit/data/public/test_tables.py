"""The label tables: what each number in an owner's masks becomes, by the owner's rules, written here a second time."""

import numpy as np
import pytest
from PIL import Image

from prunekit.data.dataset import IGNORE_INDEX
from prunekit.data.labels.lookup import Lookup
from prunekit.data.public.layouts import LAYOUTS
from prunekit.data.public.tables import label_table
from prunekit.errors import DataError

COUNTS = {"cityscapes": 19, "ade20k": 150, "voc": 21, "voc-aug": 21, "coco-stuff": 171}
# The numbers that Cityscapes judges, in the order of its train ids.
JUDGED = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)


def expected(name, number, numbers):
    if name == "cityscapes":
        return JUDGED.index(number) if number in JUDGED else IGNORE_INDEX
    if name == "ade20k":
        return number - 1 if number else IGNORE_INDEX
    if number == 255:
        return IGNORE_INDEX
    return numbers.index(number)  # VOC as it is, COCO-Stuff without the gaps


def table(name):
    return label_table(LAYOUTS[name].table)


@pytest.fixture
def read(tmp_path):
    def read(name, stored_HW):
        path = tmp_path / "mask.png"
        Image.fromarray(np.asarray(stored_HW).astype(np.uint8)).save(path)
        return table(name).lookup.read(path, "Unpack anew.")

    return read


def test_every_public_data_set_is_here():
    assert set(COUNTS) == set(LAYOUTS)


@pytest.mark.parametrize("name", COUNTS)
def test_every_number_becomes_its_class_or_is_refused(read, public_numbers, name):
    known = public_numbers[name]
    becomes = {}
    for number in range(256):
        if number in known:
            (becomes[number],) = np.unique(read(name, np.full((2, 3), number)))
        else:
            with pytest.raises(DataError, match=f"holds {number} at 6 pixels"):
                read(name, np.full((2, 3), number))
    assert becomes == {number: expected(name, number, known) for number in known}


@pytest.mark.parametrize("name", COUNTS)
def test_numbers_and_classes_are_one_to_one(read, public_numbers, name):
    labels = read(name, np.array([public_numbers[name]]))[0].tolist()
    counted = [label for label in labels if label != IGNORE_INDEX]
    assert sorted(counted) == list(range(COUNTS[name])) == list(range(len(table(name).classes)))
    back = dict(zip(labels, public_numbers[name], strict=True))
    assert read(name, np.array([[back[label] for label in counted]]))[0].tolist() == counted


@pytest.mark.drawn(10)
@pytest.mark.parametrize("name", COUNTS)
def test_a_drawn_mask_is_read_place_by_place(read, public_numbers, name, seed):
    rng = np.random.default_rng(seed)
    stored_HW = rng.choice(public_numbers[name], rng.integers(1, 40, 2))
    labels_HW = read(name, stored_HW)
    assert labels_HW.dtype == np.uint8
    right = [[expected(name, number, public_numbers[name]) for number in row] for row in stored_HW.tolist()]
    assert labels_HW.tolist() == right


def test_a_number_beyond_8_bits_is_refused(tmp_path):
    Image.fromarray(np.full((2, 2), 263, dtype=np.uint16)).save(tmp_path / "deep.png")  # 7 in its lower byte
    with pytest.raises(DataError, match="holds 263"):
        table("cityscapes").lookup.read(tmp_path / "deep.png", "")


def test_a_table_that_no_byte_can_hold_is_refused():
    for label_of in ({256: 0}, {-1: 0}, {0: 256}, {0: -1}):
        with pytest.raises(ValueError, match="0 to 255"):
            Lookup(label_of)


@pytest.mark.parametrize(
    ("name", "label", "said"),
    [
        ("cityscapes", 0, ("road", (128, 64, 128))),
        ("cityscapes", 11, ("person", (220, 20, 60))),
        ("cityscapes", 16, ("train", (0, 80, 100))),
        ("cityscapes", 18, ("bicycle", (119, 11, 32))),
        ("ade20k", 0, ("wall", (120, 120, 120))),
        ("ade20k", 12, ("person", (150, 5, 61))),
        ("ade20k", 76, ("boat", (173, 255, 0))),
        ("ade20k", 149, ("flag", (92, 0, 255))),
        ("voc", 0, ("background", (0, 0, 0))),
        ("voc", 15, ("person", (192, 128, 128))),
        ("voc", 20, ("tvmonitor", (0, 64, 128))),
    ],
)
def test_names_and_colours_are_the_owner_s(name, label, said):
    classes = table(name).classes
    assert (classes.names[label], classes.palette[label]) == said


def test_things_come_before_stuff_in_coco():
    names = table("coco-stuff").classes.names
    assert (names[0], names[79], names[80], names[170]) == ("person", "toothbrush", "banner", "wood")
    assert not {"hat", "shoe", "mirror", "window", "door", "desk", "street sign", "blender"} & set(names)


def bits(number):
    """Pascal VOC's rule: of each three bits, from the lowest, one goes to each colour, from its highest bit down."""
    return tuple(sum((number >> 3 * place + channel & 1) << 7 - place for place in range(3)) for channel in range(3))


def test_colours_follow_pascal_s_rule(public_numbers):
    assert list(table("voc").classes.palette) == [bits(number) for number in range(21)]
    stored = [number for number in public_numbers["coco-stuff"] if number != 255]
    assert list(table("coco-stuff").classes.palette) == [bits(number + 1) for number in stored]


@pytest.mark.parametrize("name", ["cityscapes", "voc", "coco-stuff"])
def test_no_two_classes_look_the_same(name):
    palette = table(name).classes.palette
    assert len(set(palette)) == len(palette)
