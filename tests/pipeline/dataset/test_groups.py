"""Joined groups: the links of a graph, followed to their ends."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from pipeline.dataset.groups import images_per_group, join_groups
from pipeline.dataset.labels import TableError

LINKS = st.lists(st.tuples(st.integers(0, 29), st.integers(0, 29)), max_size=25)


@settings(deadline=None)  # writes a file each time
@given(LINKS, st.lists(st.integers(0, 14), min_size=30, max_size=30))
def test_two_rows_are_joined_when_a_chain_of_pairs_and_groups_leads_between(
    tmp_path_factory, links, numbers
):
    path = tmp_path_factory.getbasetemp() / "pairs.csv"
    pairs = pd.DataFrame([(f"i{a}", f"i{b}") for a, b in links], columns=["id_1", "id_2"])
    pairs.to_csv(path, index=False)
    ids = np.array([f"i{row}" for row in range(30)], object)
    groups = np.array([f"g{number}" for number in numbers], object)
    joined, _ = join_groups(str(path), ids, groups)

    edges = [*links, *((row, numbers.index(number)) for row, number in enumerate(numbers))]
    ends = np.array(edges).T
    _, wanted = connected_components(coo_array((np.ones(len(edges)), tuple(ends)), [30, 30]))
    np.testing.assert_array_equal(
        joined[:, None] == joined[None, :], wanted[:, None] == wanted[None, :]
    )
    assert set(joined) <= set(groups)


def test_the_order_of_the_pairs_changes_no_name(tmp_path):
    ids = groups = np.array(list("abcdef"), object)
    found = []
    for pairs in ("c,b\nb,a\nf,e\n", "e,f\na,b\nb,c\n"):
        (tmp_path / "pairs.csv").write_text(f"id_1,id_2\n{pairs}")
        found.append(join_groups(str(tmp_path / "pairs.csv"), ids, groups)[0].tolist())
    assert found == [list("aaadee")] * 2


def test_a_table_without_pairs_joins_nothing_and_one_without_columns_is_refused(tmp_path):
    ids = groups = np.array(["a", "b"], object)
    (tmp_path / "pairs.csv").write_text("id_1,id_2,distance\n")
    assert join_groups(str(tmp_path / "pairs.csv"), ids, groups)[0].tolist() == ["a", "b"]
    (tmp_path / "pairs.csv").write_text("id_1,id2\na,b\n")
    with pytest.raises(TableError, match="no column 'id_2'; did you mean 'id2'"):
        join_groups(str(tmp_path / "pairs.csv"), ids, groups)


def test_images_per_group_is_each_rows_own_count():
    groups = np.array(["a", "b", "a", "c", "a"], object)
    np.testing.assert_array_equal(images_per_group(groups), np.array([3, 1, 3, 1, 3], np.float32))
