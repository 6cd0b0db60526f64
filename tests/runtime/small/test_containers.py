"""The container files hold to what the page beside them says."""

import re
from pathlib import Path

import pytest

import prunekit_runtime

FOLDER = Path(prunekit_runtime.__file__).parent.parent / "jetson"
PAGE = (FOLDER / "README.md").read_text()
FILES = sorted(FOLDER.glob("*.Dockerfile"))


def instructions(path: Path) -> list[tuple[str, str]]:
    """Return (instruction, its text) of a container file, with continued lines joined."""
    lines = re.sub(r"\\\n", " ", path.read_text()).splitlines()
    kept = [line for line in lines if line.strip() and not line.startswith("#")]
    return [(line.split(maxsplit=1)[0], " ".join(line.split()[1:])) for line in kept]


def test_there_is_one_for_each_that_the_page_names():
    assert [path.name for path in FILES] == sorted(re.findall(r"^\| `(\w+\.Dockerfile)`", PAGE, re.M))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_its_base_is_the_one_that_the_page_names(path):
    row = next(line for line in PAGE.splitlines() if line.startswith(f"| `{path.name}`"))
    bases = [text for name, text in instructions(path) if name == "FROM"]
    assert bases == re.findall(r"`(nvcr\.io/[^`]+)`", row)
    assert "-igpu" not in bases[0]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_it_takes_nothing_but_packages_of_the_system(path):
    names = [name for name, _ in instructions(path)]
    assert not {"COPY", "ADD"} & set(names)
    runs = " ".join(text for name, text in instructions(path) if name == "RUN")
    assert "python3-numpy" in runs
    assert not re.search(r"\b(pip|curl|wget|git)\b", runs)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_it_runs_the_runtime_of_the_mounted_bundle(path):
    values = dict(instructions(path))
    assert values["ENTRYPOINT"] == '["python3", "-m", "prunekit_runtime"]'
    assert values["CMD"] == '["doctor"]'
    mounted = re.findall(r"^#   docker run .*:(/\w+)\"", path.read_text(), re.M)
    assert [values["WORKDIR"]] == mounted
    assert f":{values['WORKDIR']}" in PAGE
