"""Which layers stay fp16: on planted costs, whose answer is known."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from prunekit_export.errors import ExportError
from prunekit_export.quantising import Judged, Layers, fewest_kept


class Costs:
    """A judge of files that name their int8 layers: each costs its own points of mIoU and changes its own labels."""

    def __init__(self, costs: dict[str, float]) -> None:
        self.costs = costs
        self.written: list[tuple[str, ...]] = []

    def write(self, names: Sequence[str]) -> Path:
        self.written.append(tuple(names))
        return Path("/".join(names) or "none")

    def __call__(self, path: Path, count: int | None = None) -> Judged:
        assert path == Path("/".join(self.written[-1]) or "none")
        cost = sum(self.costs[name] for name in self.written[-1])
        return Judged(agreement=1 - cost, miou=0.6 - cost, pictures=count or 64)

    def drop(self, judged: Judged) -> float:
        assert judged.miou is not None
        return 0.6 - judged.miou


@pytest.mark.drawn(60)
def test_the_fewest_of_the_most_sensitive_layers_are_kept(seed: int) -> None:
    random = np.random.default_rng(seed)
    names = [f"conv{number}" for number in range(random.integers(1, 30))]
    judge = Costs({name: float(random.uniform(0.0001, 0.01)) for name in names})
    allowed = float(random.uniform(0, 1.2)) * sum(judge.costs.values())
    cheapest_first = sorted(judge.costs.values())
    within = [count for count in range(1, len(names) + 1) if sum(cheapest_first[:count]) <= allowed + 1e-12]
    layers = Layers(tuple(names), ())
    if not within:
        with pytest.raises(ExportError, match="No layer can be int8"):
            fewest_kept(layers, judge, judge.write, allowed)
        return
    found = fewest_kept(layers, judge, judge.write, allowed + 1e-12)
    assert len(found.layers.quantised) == max(within)
    assert judge.drop(found.judged) <= allowed + 1e-9
    assert [name for name in names if name in found.layers.quantised] == list(found.layers.quantised)
    assert {layer.reason for layer in found.layers.kept} <= {"the mIoU needs it"}
    assert found.tried == len(judge.written)


def test_where_all_layers_will_do_none_is_looked_at_alone() -> None:
    judge = Costs({"a": 0.001, "b": 0.001})
    found = fewest_kept(Layers(("a", "b"), ()), judge, judge.write, 0.005)
    assert (found.layers.quantised, found.tried) == (("a", "b"), 1)
