import pytest
from hypothesis import given
from hypothesis import strategies as st

from prunekit.data.dataset import IGNORE_INDEX, MAX_CLASSES, ClassMap
from prunekit.data.labels.class_list import made_up_palette, read_class_list
from prunekit.errors import DataError


def written(tmp_path, text, name="classes.toml"):
    path = tmp_path / name
    path.write_text(text)
    return path


def test_text_and_toml_say_the_same(tmp_path):
    text = written(tmp_path, "# mine\nroad 128 64 128\n\ntraffic light 250 170 30\n", "classes.txt")
    toml = written(
        tmp_path,
        '[[classes]]\nname = "road"\ncolour = [128, 64, 128]\n'
        '[[classes]]\nname = "traffic light"\ncolour = [250, 170, 30]',
    )
    assert read_class_list(text) == read_class_list(toml)
    assert read_class_list(text).classes.names == ("road", "traffic light")


def test_names_without_colours_get_a_palette(tmp_path):
    found = read_class_list(written(tmp_path, "road\nlane 2\n", "names"))
    assert found.classes.names == ("road", "lane 2")
    assert not found.coloured


@given(st.integers(1, MAX_CLASSES))
def test_made_up_colours_differ(count):
    assert len(set(made_up_palette(count))) == count


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("classes = []", "classes"),
        ("[[classes]]\nname = 3", "name"),
        ('[[classes]]\nname = "a"\nnmae = "b"', "nmae"),
        ('ignore_idx = 3\n[[classes]]\nname = "a"', "ignore_idx"),
        ('ignore_index = 0\n[[classes]]\nname = "a"', "ignore_index 0"),
        ('[[classes]]\nname = "a"\ncolour = [1, 2]', "colour"),
        ('[[classes]]\nname = "a"\ncolour = [1, 2, 300]', "300"),
        ('[[classes]]\nname = "a"\ncolour = [1, 2, 3]\n[[classes]]\nname = "b"', "Give all, or none"),
        ('[[classes]]\nname = "a"\ncolour = [1,2,3]\n[[classes]]\nname = "b"\ncolour = [1,2,3]', "twice"),
        ('[[classes]]\nname = "a"\n[[classes]]\nname = "a"', "unique"),
        ('[[classes]]\nname = " "', "unique"),
        ('masks = "rainbow"\n[[classes]]\nname = "a"', "masks"),
        ("road\nsky", "TOML"),
    ],
)
def test_mistakes_are_named(tmp_path, text, said):
    with pytest.raises(DataError, match=said) as caught:
        read_class_list(written(tmp_path, text))
    assert "Traceback" not in str(caught.value)


@pytest.mark.parametrize(
    "content", [b"", b"\n# nothing\n", b"\xff\xfe\x00", b"x" * (1 << 21), b"x" * 200_000 + b"\x00"]
)
def test_files_that_are_no_class_list_are_refused(tmp_path, content):
    path = tmp_path / "classes.txt"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"classes\.txt"):
        read_class_list(path)


def test_too_many_classes_are_refused(tmp_path):
    names = "\n".join(f"class {number}x" for number in range(256))
    with pytest.raises(DataError, match="256"):
        read_class_list(written(tmp_path, names, "many.txt"))


@pytest.mark.parametrize("palette", [(), ((1, 2, 3),), ((1, 2, 3), (1, 2, 256)), ((1, 2, 3), (1, -2, 6))])
def test_a_palette_must_fit_the_names(palette):
    with pytest.raises(DataError):
        ClassMap(("a", "b"), palette)


DIGITS = "9" * 5000


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (f"road 1 2 {DIGITS}", "classes.txt"),
        (f"road 1 2 {'0' * 5000}7", "classes.txt"),
        (f"ignore_index = {DIGITS}", "classes.toml"),
        (f"ignore_index = 0x{DIGITS}", "classes.toml"),
        (f'[[classes]]\nname = "a"\ncolour = [1, 2, 0x{DIGITS}]', "classes.toml"),
        (f"ignore_index = 0x{DIGITS}\n" + '[[classes]]\nname = "a"', "classes.toml"),
        ('[[classes]]\nname = "a"\ncolour = [1, 2, -3]', "classes.toml"),
    ],
)
def test_numbers_of_any_length_are_an_error_of_a_few_lines(tmp_path, text, name):
    with pytest.raises(DataError, match="classes") as caught:
        read_class_list(written(tmp_path, text, name))
    assert len(str(caught.value)) < 1000


def test_a_list_of_very_many_coloured_classes_is_refused_at_once(tmp_path):
    lines = [f"c{number} {number % 200} 7 9" for number in range(60_000)]
    with pytest.raises(DataError, match="got 60000"):
        read_class_list(written(tmp_path, "\n".join(lines), "many.txt"))


@pytest.mark.parametrize("name", ["road\x1b[2J", "a\x07b", "bell\ud800"])
def test_a_name_that_would_steer_the_terminal_is_refused(name):
    with pytest.raises(DataError, match="control character") as caught:
        ClassMap((name,), ((0, 0, 0),))
    assert str(caught.value).isprintable()


def test_numbers_of_masks_must_fit_the_list(tmp_path):
    path = written(tmp_path, "road\nsky\n", "classes.txt")
    assert read_class_list(path, (0, 255)).label_of == {0: 0, 255: 1}
    assert read_class_list(path, (7, 8)).label_of[255] == IGNORE_INDEX
    with pytest.raises(DataError, match="3 numbers, the class list 2"):
        read_class_list(path, (0, 1, 2))
    toml = written(tmp_path, 'ignore_index = 0\n[[classes]]\nname = "a"\n[[classes]]\nname = "b"')
    assert read_class_list(toml, (1, 2)).label_of == {0: IGNORE_INDEX, 1: 0, 2: 1}
    with pytest.raises(DataError, match="'b' in the masks"):
        read_class_list(toml, (1, 0))
