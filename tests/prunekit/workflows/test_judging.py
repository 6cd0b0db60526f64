"""The batches that channels are judged by: how they are spread over the data set."""

from hypothesis import given
from hypothesis import strategies as st

from prunekit.workflows.pruning.judging import spread


@given(total=st.integers(1, 2000), size=st.integers(1, 16), count=st.integers(1, 20))
def test_batches_reach_from_end_to_end(total: int, size: int, count: int) -> None:
    batches = spread(total, size, count)
    indices = [index for batch in batches for index in batch]
    wanted = min(total, size * count)
    assert len(indices) == len(set(indices)) == wanted
    assert len(batches) == -(-wanted // size) <= count
    sizes = [len(batch) for batch in batches]
    assert max(sizes) <= size
    assert max(sizes) - min(sizes) <= 1
    assert indices[0] == 0
    gaps = [after - before for before, after in zip(indices, [*indices[1:], total], strict=True)]
    assert max(gaps) - min(gaps) <= 1
