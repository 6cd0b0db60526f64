"""Numbers of masks: ids, label maps, ignored numbers. What a class list says is what a mask is read as."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from prunekit.data.dataset import IGNORE_INDEX
from prunekit.data.labels.class_list import read_class_list
from prunekit.data.labels.masks import read_mask
from prunekit.data.labels.numbers import listed_numbers
from prunekit.errors import DataError
from prunekit.recipe import DataConfig

DRAWN = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
NAMES = ("road", "sky", "traffic light", "person")


def read(tmp_path, text, name="classes.toml", **how):
    (tmp_path / name).write_text(text)
    return read_class_list(tmp_path / name, **how)


def classes(names=NAMES):
    return "".join(f'[[classes]]\nname = "{name}"\n' for name in names)


@st.composite
def label_maps(draw):
    """Numbers of masks and their labels, every class among them; some numbers do not count."""
    numbers = draw(st.lists(st.integers(0, 65535), min_size=4, max_size=12, unique=True))
    labels = [0, 1, 2, 3, *draw(st.lists(st.sampled_from([0, 1, 2, 3, IGNORE_INDEX]), min_size=8, max_size=8))]
    return dict(zip(numbers, labels, strict=False))


def target(label, by):
    if label == IGNORE_INDEX:
        return '"ignore"' if by == "name" else str(IGNORE_INDEX)
    return f'"{NAMES[label]}"' if by == "name" else str(label)


@DRAWN
@given(label_maps(), st.sampled_from(["name", "place"]), st.integers(0, 2**32 - 1))
def test_a_label_map_turns_each_number_into_its_label(tmp_path, numbers, by, seed):
    lines = "".join(f"{number} = {target(label, by)}\n" for number, label in numbers.items())
    found = read(tmp_path, f"{classes()}[label_map]\n{lines}")
    known = numbers if IGNORE_INDEX in numbers else {**numbers, IGNORE_INDEX: IGNORE_INDEX}
    assert found.label_of == known
    drawn = np.random.default_rng(seed).choice(sorted(known), (5, 7)).astype(np.uint16)
    Image.fromarray(drawn).save(tmp_path / "mask.png")
    assert np.array_equal(read_mask(tmp_path / "mask.png", found), np.vectorize(known.get)(drawn))
    unknown = next(number for number in range(65536) if number not in known)
    drawn[2, 3] = unknown
    Image.fromarray(drawn).save(tmp_path / "mask.png")
    with pytest.raises(DataError, match=f"holds {unknown} at 1 pixels"):
        read_mask(tmp_path / "mask.png", found)


@DRAWN
@given(label_maps().filter(lambda numbers: IGNORE_INDEX not in numbers))
def test_ids_and_a_label_map_say_the_same(tmp_path, numbers):
    ignored = [number for number, label in numbers.items() if label == IGNORE_INDEX]
    ids = [[number for number, label in numbers.items() if label == place] for place in range(4)]
    entries = "".join(
        f'[[classes]]\nname = "{name}"\nid = {one[0] if len(one) == 1 else one}\n'
        for name, one in zip(NAMES, ids, strict=True)
    )
    lines = "".join(f'{number} = "{NAMES[place]}"\n' for place, one in enumerate(ids) for number in one)
    by_ids = read(tmp_path, f"ignore_index = {ignored}\n{entries}")
    by_map = read(tmp_path, f"ignore_index = {ignored}\n{classes()}[label_map]\n{lines}")
    assert by_ids.label_of == by_map.label_of == numbers


def test_a_range_of_numbers_is_one_line(tmp_path):
    lines = '0 = "ignore"\n1 = "road"\n"2-4" = "sky"\n"34-65535" = "ignore"\n'
    found = read(tmp_path, f"ignore_index = []\n{classes(['road', 'sky'])}[label_map]\n{lines}")
    counted = {number: label for number, label in found.label_of.items() if label != IGNORE_INDEX}
    assert counted == {1: 0, 2: 1, 3: 1, 4: 1}
    assert sum(label == IGNORE_INDEX for label in found.label_of.values()) == 1 + 65535 - 33


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('road = "road"', "'road' for a number of the masks"),
        ('"9-3" = "road"', "rising range"),
        ('70000 = "road"', "0 to 65535"),
        ('0 = "raod"', "Is it 'road'"),
        ("0 = 4", "0 to 3"),
        ('"0-9" = "road"\n3 = "sky"', "3 is given twice, to 'road' and 'sky'"),
        ('0 = "road"\n1 = "sky"', "no number for 'traffic light', 'person'"),
        ("0 = 1.5", "label_map"),
    ],
)
def test_mistakes_in_a_label_map_are_named(tmp_path, text, said):
    with pytest.raises(DataError, match=said):
        read(tmp_path, f"{classes()}[label_map]\n{text}")


def test_two_ways_to_say_the_numbers_are_refused(tmp_path):
    ids = classes(["road"]) + "id = 7\n"
    with pytest.raises(DataError, match="id and label_map"):
        read(tmp_path, f'{ids}[label_map]\n7 = "road"\n')
    with pytest.raises(DataError, match=r"data\.mask_values.*Keep one"):
        read(tmp_path, ids, values=(7,))
    with pytest.raises(DataError, match="1 of 2 classes have an id"):
        read(tmp_path, ids + classes(["sky"]))
    with pytest.raises(DataError, match="a class has that name"):
        read(tmp_path, f'{classes(["ignore"])}[label_map]\n7 = "ignore"\n')


def test_very_long_ranges_take_no_memory(tmp_path):
    ranges = "".join(f'"{place}-65535" = "road"\n' for place in range(4000))
    with pytest.raises(DataError, match="given twice"):
        read(tmp_path, f"{classes(['road'])}[label_map]\n{ranges}")


@pytest.mark.parametrize("said", [0, [0, 255], [0, 7, 255]])
def test_several_numbers_may_be_ignored_by_list_or_recipe(tmp_path, said):
    text = classes(["road", "sky"])
    numbers = tuple(said) if isinstance(said, list) else (said,)
    listed = read(tmp_path, f"ignore_index = {said}\n{text}", values=(1, 2))
    named = read(tmp_path, f"ignore_index = 99\n{text}", values=(1, 2), ignore_index=numbers)
    assert listed.label_of == named.label_of == {1: 0, 2: 1, **dict.fromkeys(numbers, IGNORE_INDEX)}


def test_an_ignored_class_is_refused_with_what_to_do(tmp_path):
    with pytest.raises(DataError, match=r"ignore_index 0 is also the class 'road'.*mask_values=1-3"):
        read(tmp_path, classes(), ignore_index=(0,))


def test_all_unknown_numbers_of_a_mask_are_named(tmp_path):
    Image.fromarray(np.array([[0, 9], [5, 6]], dtype=np.uint8)).save(tmp_path / "mask.png")
    with pytest.raises(DataError, match=r"holds 9 at 1 pixels \(and 5-6, unknown too\).*--ignore-index 9"):
        read_mask(tmp_path / "mask.png", read(tmp_path, classes()))


@given(st.lists(st.integers(0, 60), max_size=30))
def test_listed_numbers_are_those_numbers(numbers):
    shown, _, rest = listed_numbers(numbers).partition(" and ")
    ends = [tuple(map(int, part.split("-"))) for part in shown.split(", ") if part]
    covered = {number for first, *last in ends for number in range(first, (last or [first])[0] + 1)}
    count = int(rest.split()[0]) if rest else 0
    assert covered <= set(numbers)
    assert len(covered) + count == len(set(numbers))


def test_american_spelling_and_hexadecimal_colours_are_read(tmp_path):
    british = read(
        tmp_path,
        'ignore_colour = [0, 0, 0]\nmasks = "colour"\n[[classes]]\nname = "road"\ncolour = [128, 64, 128]\n',
    )
    american = read(
        tmp_path, 'ignore_color = "#000000"\nmasks = "color"\n[[classes]]\nname = "road"\ncolor = "#804080"\n'
    )
    assert british == american
    assert read(tmp_path, "road #804080\n", "a.txt") == read(tmp_path, "road 128 64 128\n", "b.txt")
    with pytest.raises(DataError, match="color"):
        read(tmp_path, '[[classes]]\nname = "road"\ncolor = [1, 2, 3]\ncolour = [1, 2, 3]\n')


def test_a_palette_is_held_against_the_numbers_of_the_list(tmp_path):
    text = 'ignore_index = 0\n[[classes]]\nname = "a"\nid = 5\ncolour = [9, 0, 0]\n[[classes]]\nname = "b"\nid = 2\n'
    found = read(tmp_path, text + "colour = [0, 9, 0]\n")
    mask = Image.fromarray(np.array([[5, 2], [2, 5]], dtype=np.uint8), "P")
    for right, colours in ((True, {5: (9, 0, 0), 2: (0, 9, 0)}), (False, {2: (9, 0, 0), 5: (0, 9, 0)})):
        mask.putpalette([part for number in range(16) for part in colours.get(number, (1, 1, 1))])
        mask.save(tmp_path / "mask.png")
        if right:
            assert read_mask(tmp_path / "mask.png", found).tolist() == [[0, 1], [1, 0]]
        else:
            with pytest.raises(DataError, match="under other numbers"):
                read_mask(tmp_path / "mask.png", found)


@pytest.mark.parametrize(("value", "numbers"), [(0, (0,)), ("0,255", (0, 255)), ([3], (3,)), ("4-6", (4, 5, 6))])
def test_the_recipe_takes_one_ignored_number_or_several(value, numbers):
    assert DataConfig(name="folder", ignore_index=value).ignore_index == numbers
    with pytest.raises(ValueError, match="belongs to the folder"):
        DataConfig(name="camvid", ignore_index=value)
