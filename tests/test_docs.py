"""The Python in the documents runs."""

import re
from pathlib import Path

import pytest
import torch

from prunekit.models.zoo import build

ROOT = Path(__file__).parents[1]
PAGES = ("README.md", "docs/pruning.md")
BLOCKS = [
    pytest.param(block, id=f"{page}-{number}")
    for page in PAGES
    for number, block in enumerate(re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), re.DOTALL))
]


@pytest.mark.parametrize("block", BLOCKS)
def test_the_python_of_the_documents_runs(block: str) -> None:
    model = build("python:prunekit.models.street:street_net?width=16", num_classes=19).network.eval()
    before = sum(parameter.numel() for parameter in model.parameters())
    labels_BHW = torch.randint(0, 19, (2, 64, 96))
    names = {"model": model, "train_loader": [(torch.randn(2, 3, 64, 96), labels_BHW)]}
    exec(compile(block, "document", "exec"), names)
    if "smaller" in names:
        assert sum(parameter.numel() for parameter in names["smaller"].parameters()) < before


def test_there_is_python_in_the_documents() -> None:
    assert len(BLOCKS) >= 3


def test_the_criterion_of_the_document_judges(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from prunekit.pruning import analyse
    from prunekit.pruning.criteria import criterion_named
    from prunekit.pruning.evidence import Evidence, Labelled

    block = next(param.values[0] for param in BLOCKS if "# better.py" in str(param.values[0]))
    (tmp_path / "better_of_the_document.py").write_text(str(block))
    monkeypatch.syspath_prepend(tmp_path)
    network = build("python:prunekit.models.street:street_net?width=8", num_classes=4).network.eval()
    images_B3HW, labels_BHW = torch.randn(2, 3, 64, 96), torch.zeros(2, 64, 96, dtype=torch.long)
    evidence = Evidence(
        network=network,
        coupling=analyse(network, (images_B3HW,)),
        batches=lambda: [Labelled(images_B3HW, labels_BHW)],
        forward=network,
        loss=lambda images, labels: torch.nn.functional.cross_entropy(network(images), labels),
        num_classes=4,
    )
    rankings = criterion_named("python:better_of_the_document:better").rank(evidence)
    assert set(rankings) == {group.name for group in evidence.coupling.free}


def test_the_page_of_public_data_sets_names_each_with_its_tree() -> None:
    from prunekit.data.public.layouts import LAYOUTS
    from prunekit.data.public.tables import label_table

    page = (ROOT / "docs/datasets.md").read_text()
    for name, layout in LAYOUTS.items():
        (row,) = [line for line in page.splitlines() if line.startswith(f"| `{name}` |")]
        assert row.split("|")[2].strip() == str(len(label_table(layout.table).classes))
        assert layout.address.split(" and ")[-1] in row
        assert all(f"{place}/" in page for place in layout.inside)
        assert all(line.split()[0].rstrip(",") in page for line in layout.tree[:-1])


NAMES = {
    "PFB": "partial forward blocking",
    "CCS": "class center similarity",
    "SIRFP": "spatial-aware information redundancy filter pruning",
}


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("short", NAMES)
def test_abbreviations_are_spelt_out_where_they_are_first_met(page: str, short: str) -> None:
    text = " ".join((ROOT / page).read_text().split())
    first = text.index(short)
    assert NAMES[short] in text[first : first + len(short) + len(NAMES[short]) + 10].lower()


def test_the_help_of_train_spells_them_out() -> None:
    from typer.main import get_command

    from prunekit_cli.main import app

    options = {option.name: option.help for option in get_command(app).commands["train"].params}
    assert NAMES["PFB"] in options["select"]
    assert NAMES["CCS"] in options["head"]
