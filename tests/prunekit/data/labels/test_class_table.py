"""Class tables: rows of name and colour, as CamVid's class_dict.csv has them."""

import csv
import io
import string

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from prunekit.data.dataset import IGNORE_INDEX
from prunekit.data.labels.class_list import read_class_list
from prunekit.errors import DataError

NAMES = st.text(st.sampled_from(string.ascii_letters + " ,;'äß_-"), min_size=1, max_size=12).filter(
    lambda name: name.strip() == name and name.lower() not in ("name", "label", "class", "category")
)
COLOURS = st.tuples(*[st.integers(0, 255)] * 3)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(NAMES, min_size=1, max_size=9, unique=True).flatmap(
        lambda names: st.tuples(
            st.just(names), st.lists(COLOURS, min_size=len(names), max_size=len(names), unique=True)
        )
    ),
    st.sampled_from([None, ("name", "r", "g", "b"), ("Class", "Red", "GREEN", "blue")]),
    st.sampled_from([",", ";", "\t"]),
    st.sampled_from(["classes.csv", "classes.txt"]),
    st.booleans(),
)
def test_a_table_is_read_as_it_was_written(tmp_path, classes, header, separator, name, marked):
    names, colours = classes
    text = io.StringIO()
    writer = csv.writer(text, delimiter=separator, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n")
    if header is not None:
        text.write(separator.join(header) + "\n")
    writer.writerows([[one, *colour] for one, colour in zip(names, colours, strict=True)])
    path = tmp_path / name
    path.write_text(text.getvalue(), encoding="utf-8-sig" if marked else "utf-8")
    found = read_class_list(path)
    assert found.classes.names == tuple(names)
    assert found.classes.palette == tuple(colours)
    assert found.coloured


def read(tmp_path, text, name="class_dict.csv"):
    (tmp_path / name).write_text(text)
    return read_class_list(tmp_path / name)


def test_columns_go_by_their_names(tmp_path):
    found = read(tmp_path, "id,b,g,r,label\n0,3,2,1,road\n1,6,5,4,sky\n")
    assert found.classes.names == ("road", "sky")
    assert found.classes.palette == ((1, 2, 3), (4, 5, 6))


def test_ids_are_the_numbers_in_the_masks(tmp_path):
    found = read(tmp_path, "id,name\n7,road\n2,sky\n")
    assert found.label_of == {7: 0, 2: 1, 255: IGNORE_INDEX}
    assert not read(tmp_path, "id,name\n0,road\n1,sky\n").numbers  # as without, so that mask_values may be said


@pytest.mark.parametrize("header", ["color", "colour", "hex"])
@pytest.mark.parametrize(
    "colours", [("#804080", "#4682B4"), ("128 64 128", "70 130 180"), ('"128,64,128"', "70;130;180")]
)
def test_a_colour_may_be_one_column(tmp_path, header, colours):
    found = read(tmp_path, f"name,{header}\nroad,{colours[0]}\nsky,{colours[1]}\n")
    assert found.classes.palette == ((128, 64, 128), (70, 130, 180))


@pytest.mark.parametrize("text", ["name\nroad\nsky\n", "road\nsky\n", "id,name\n0,road\n1,sky\n"])
def test_a_table_may_hold_names_alone(tmp_path, text):
    found = read(tmp_path, text)
    assert found.classes.names == ("road", "sky")
    assert not found.coloured


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name,r,g,b\n", "no class"),
        ("name,r,g\nroad,1,2\n", "begins with 'name,r,g'"),
        ("name,r,g,b,weight\nroad,1,2,3,0.5\n", "begins with"),
        ("name,r,g,b\nroad,1,2\n", "class 0 has 3 columns"),
        ("name,r,g,b\nroad,wet,1,2,3\n", "between quotes"),
        ("name,r,g,b\nroad,1,2,red\n", "'red' for a colour"),
        ("name,r,g,b\nroad,1,2,-3\n", "'-3' for a colour"),
        ("name,r,g,b\nroad,1,2,300\n", "300"),
        (f"name,r,g,b\nroad,1,2,{'9' * 5000}\n", "for a colour"),
        ("name,r,g,b\nroad,1,2,3\nroad,4,5,6\n", "unique"),
        ("name,r,g,b\nroad,1,2,3\nsky,1,2,3\n", "twice"),
        ("id,name\n1,road\n1,sky\n", "1 is given twice"),
        ("id,name\none,road\n", "the id 'one'"),
        ('name,r,g,b\n"road,1,2,3\n', "quotes"),
        ("background\nroad,1,2,3\n", "columns"),
        ("1,2,3\n", "begins with"),
    ],
)
def test_mistakes_are_named(tmp_path, text, said):
    for name in ("class_dict.csv", "classes.txt"):
        if name == "classes.txt" and text in ("1,2,3\n",):
            continue  # as text a class of that name
        with pytest.raises(DataError, match=said):
            read(tmp_path, text, name)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ('{"road": 0, "sky": 1}', "classes.json"),
        ('[{"name": "road"}]', "classes.txt"),
        ('[[classes]]\nname = "road"', "classes.txt"),
        ("names:\n  - road\n", "classes.yaml"),
        ("<classes><class>road</class></classes>", "classes.txt"),
    ],
)
def test_lines_of_other_formats_do_not_become_names(tmp_path, text, name):
    with pytest.raises(DataError, match="looks like"):
        read(tmp_path, text, name)
