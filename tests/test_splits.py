"""Splits: sides drawn by class or cut in time, and the two halves of validation."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.core.contract import InputError
from pipelines.core.data.dataset import Dataset
from pipelines.core.data.splits import SHARES, Splits, by_time, draw_by_class, halves
from tests.builders import dataset, part

# ------------------------------------------------------------------------------------------------------------- halves


def records(n, seed=0):
    rng = np.random.default_rng(seed)
    return pd.DataFrame({"label": (rng.random(n) < 0.2).astype(int)})


@given(st.integers(0, 1000))
@settings(max_examples=25, deadline=None)
def test_halves_keep_groups_whole_and_share_the_labels(seed):
    frame = records(600, seed)
    frame["group"] = np.random.default_rng(seed).integers(0, 60, 600).astype(str)
    rows = np.arange(100, 600)
    stopping, calibration = halves(dataset(frame), rows, seed)
    assert not set(frame["group"].iloc[stopping]) & set(frame["group"].iloc[calibration])
    assert sorted([*stopping, *calibration]) == rows.tolist()
    assert 0.4 < len(stopping) / 500 < 0.6
    assert frame["label"].iloc[stopping].mean() == pytest.approx(frame["label"].iloc[calibration].mean(), abs=0.06)


def test_halves_in_time_stop_on_the_earlier_and_calibrate_on_the_later():
    frame = records(9)
    frame["time"] = pd.to_datetime(["2020-01-0" + day for day in "313151559"])
    stopping, calibration = halves(dataset(frame), np.arange(9), seed=0)
    # Half of nine rows would cut the two of the 3rd apart, which stay together.
    assert stopping.tolist() == [0, 1, 2, 3, 5]
    assert calibration.tolist() == [4, 6, 7, 8]


def test_halves_of_no_rows_are_empty():
    assert [len(half) for half in halves(dataset(records(5)), np.arange(0), seed=0)] == [0, 0]


def test_halves_at_random_are_stratified_and_the_same_for_the_same_seed():
    frame, rows = records(500), np.arange(500)
    stopping, calibration = halves(dataset(frame), rows, seed=1)
    assert abs(len(stopping) - len(calibration)) <= 2
    assert abs(frame["label"].iloc[stopping].sum() - frame["label"].iloc[calibration].sum()) <= 2
    assert np.array_equal(stopping, halves(dataset(frame), rows, seed=1)[0])
    assert not np.array_equal(stopping, halves(dataset(frame), rows, seed=2)[0])


def test_halves_need_no_label_and_are_alike_in_quantities_of_any_sign():
    masks = dataset(pd.DataFrame(index=range(20)))
    assert [len(half) for half in halves(masks, np.arange(20))] == [10, 10]
    returns = np.random.default_rng(0).normal(-3, 1, 1000)
    means = [returns[half].mean() for half in halves(dataset({"label": returns}), np.arange(1000))]
    assert means[0] == pytest.approx(means[1], abs=0.02)


@pytest.mark.parametrize("column", ["group", "time"])
def test_halves_of_a_single_group_or_time_are_refused(column):
    frame = records(10).assign(**{column: pd.Timestamp("2020-01-01")})
    with pytest.raises(InputError, match=r"cannot be cut in two.*Received: one, in 10 records"):
        halves(dataset(frame), np.arange(10), seed=0)


# ------------------------------------------------------------------------------------------------------ drawn by class


@st.composite
def grouped(draw, least=4, largest=30):
    """Labels of two or three classes and groups of one class each, of any sizes, in any order."""
    sizes = draw(st.lists(st.lists(st.integers(1, largest), min_size=least, max_size=12), min_size=2, max_size=3))
    of_group = [(size, label) for label, each in enumerate(sizes) for size in each]
    labels = np.concatenate([np.full(size, label) for size, label in of_group])
    groups = np.repeat([f"g{number}" for number in range(len(of_group))], [size for size, _ in of_group])
    order = np.random.default_rng(draw(st.integers(0, 2**32 - 1))).permutation(len(labels))
    return labels[order], pd.Series(groups[order]), "abc"[: len(sizes)]


@given(grouped(), st.sampled_from([SHARES, {"validation": 0.15}, {"test": 0.2}]))
def test_whole_groups_are_drawn_and_every_class_is_on_every_side(case, shares):
    labels, group, classes = case
    drawn = draw_by_class(np.full(len(labels), "train", object), labels, classes, group, shares)
    assert set(drawn) == {"train", *shares}
    assert (pd.Series(drawn).groupby(group).nunique() == 1).all()
    for name in range(len(classes)):
        sides = pd.DataFrame({"side": drawn, "group": group})[labels == name].groupby("side")["group"].nunique()
        assert set(sides.index) == {"train", *shares}
        if "validation" in shares:
            assert sides["validation"] >= 2  # one for each half


@given(st.integers(100, 400), st.integers(100, 400), st.booleans())
def test_about_the_wanted_share_of_each_class_is_drawn(first, second, in_groups):
    labels = np.repeat([0, 1], [first, second])
    group = pd.Series(np.arange(len(labels)) // 2) if in_groups else None
    drawn = draw_by_class(np.full(len(labels), "train", object), labels, "ab", group, SHARES)
    for label, count in enumerate((first, second)):
        for side, share in SHARES.items():
            assert (drawn[labels == label] == side).sum() == pytest.approx(share * count, abs=3)


def test_only_records_on_train_are_drawn_and_always_the_same():
    side = np.repeat(["train", "test"], [60, 40]).astype(object)
    labels = np.tile([0, 1], 50)
    drawn = draw_by_class(side, labels, "ab", None, {"validation": 0.15})
    assert (drawn[60:] == "test").all()
    assert (side[:60] == "train").all()
    assert (drawn[:60] == "validation").sum() == pytest.approx(9, abs=2)
    np.testing.assert_array_equal(drawn, draw_by_class(side, labels, "ab", None, {"validation": 0.15}))


@given(st.lists(st.integers(5, 30), min_size=2, max_size=5))
def test_of_single_records_both_halves_of_validation_get_some_of_every_class(sizes):
    labels = np.repeat(np.arange(len(sizes)), sizes)
    drawn = draw_by_class(np.full(len(labels), "train", object), labels, "abcde"[: len(sizes)], None, SHARES)
    data = Dataset(pd.DataFrame({"id": np.arange(len(labels)), "label": labels, "labelled": True}), None, ("id",))
    for half in halves(data, np.flatnonzero(drawn == "validation")):
        assert set(labels[half]) == set(labels)


@pytest.mark.parametrize("in_groups", [False, True])
def test_a_class_that_is_too_small_to_be_on_all_sides_is_refused_by_name(in_groups):
    labels = np.repeat([0, 1], [20, 3])
    group = pd.Series(np.arange(len(labels))) if in_groups else None
    needed = "4 groups" if in_groups else "5 records"
    with pytest.raises(InputError, match=f"Class 'bee' is too small.*expected {needed} or more.*Received: 3"):
        draw_by_class(np.full(len(labels), "train", object), labels, ["ant", "bee"], group, SHARES)


# ---------------------------------------------------------------------------------------------------------- cut in time

DAY, WEEK = pd.Timedelta(1, "D"), pd.Timedelta(7, "D")
BEGIN = pd.Timestamp("2024-01-01")
VALIDATION, TEST = BEGIN + 20 * DAY, BEGIN + 30 * DAY
LATE = ("not known when validation began", "not known when test began")


def timed(days, delays, labelled=True):
    time = BEGIN + pd.to_timedelta(days, "D")
    known_at = time + pd.to_timedelta(delays, "D")
    return dataset({"time": time, "known_at": known_at, "labelled": labelled})


@given(
    st.lists(st.tuples(st.integers(0, 40), st.none() | st.integers(0, 15), st.booleans()), min_size=1, max_size=80),
    st.booleans(),
)
def test_no_side_holds_a_label_that_was_not_known_when_the_next_one_began(cases, on_boundary):
    days, delays, labelled = (list(column) for column in zip(*cases, strict=True))
    data = timed(days, [np.nan if delay is None else delay for delay in delays], labelled)
    splits = by_time(data, VALIDATION, TEST, LATE, on_boundary)
    for side, (begin, end) in {
        "train": (BEGIN, VALIDATION), "validation": (VALIDATION, TEST), "test": (TEST, pd.Timestamp.max),
    }.items():  # fmt: skip
        inside = ((data.records["time"] >= begin) & (data.records["time"] < end)).to_numpy() & data.labelled
        known = (data.records["known_at"] <= end if on_boundary else data.records["known_at"] < end).to_numpy()
        expected = np.flatnonzero(inside & (known | (side == "test")))
        np.testing.assert_array_equal(splits.sides()[side], expected)
    left = data.labelled.sum() - sum(map(len, splits.sides().values()))
    assert sum(splits.left_out.values()) == left
    assert all(splits.left_out.values())


def test_a_label_that_is_known_in_the_moment_in_which_the_next_side_begins():
    data = timed([19, 29, 30], [1, 1, 100])
    kept = by_time(data, VALIDATION, TEST, LATE)
    assert [rows.tolist() for rows in kept.sides().values()] == [[0], [1], [2]]
    assert kept.left_out == {}
    strict = by_time(data, VALIDATION, TEST, LATE, known_on_boundary=False)
    assert [rows.tolist() for rows in strict.sides().values()] == [[], [], [2]]
    assert strict.left_out == dict.fromkeys(LATE, 1)


# ----------------------------------------------------------------------------------------------- what is drawn together


def together(codes: np.ndarray) -> set[tuple[int, ...]]:
    """The places that have the same code, apart from those that stand alone."""
    places = pd.Series(np.arange(len(codes))).groupby(codes).agg(tuple)
    return {found for found in places if len(found) > 1}


def clusters(copies, columns=(), rows=None, **records):
    records = pd.DataFrame(records, index=range(len(copies)))
    rows = np.arange(len(copies)) if rows is None else rows
    splits = Splits(rows[:0], rows[:0], rows, clusters=tuple(columns), copies=np.array(copies))
    return splits.clusters_of(part({"x": np.zeros(len(copies))}, rows=rows, records=records))


def test_copies_are_drawn_together_where_nothing_else_is():
    found = clusters([4, 9, 4, 7, 9])
    assert list(found) == ["copy"]
    assert together(found["copy"]) == {(0, 2), (1, 4)}


def test_copies_tie_the_groups_that_they_are_in_and_whatever_these_are_tied_to():
    """Groups a, b and c hang together by two pairs of copies; d and e by none."""
    group = ["a", "a", "b", "b", "c", "d", "e", "d"]
    found = clusters([0, 1, 1, 2, 2, 3, 4, 5], ["group"], group=group)
    assert list(found) == ["group"]
    assert found["group"].dtype == np.int64
    assert together(found["group"]) == {(0, 1, 2, 3, 4), (5, 7)}


def test_copies_tie_rows_in_every_way_of_clustering_and_a_missing_value_ties_none():
    found = clusters(
        [0, 0, 1, 2, 3], ["card", "shop"], card=["x", "y", "y", None, None], shop=["s", "t", "u", "u", "v"]
    )
    assert together(found["card"]) == {(0, 1, 2)}
    assert together(found["shop"]) == {(0, 1), (2, 3)}


def test_copies_of_records_that_are_not_in_the_part_tie_nothing():
    found = clusters([0, 0, 1, 1, 2], ["group"], rows=np.array([1, 2, 4]), group=list("aabbc"))
    assert together(found["group"]) == set()
    assert len(found["group"]) == 3


def test_without_copies_clusters_are_the_values_of_the_columns():
    records = {"group": ["a", "b", "a"]}
    splits = Splits(*[np.arange(3)] * 3, clusters=("group",))
    assert together(splits.clusters_of(part({"x": np.zeros(3)}, records=records))["group"]) == {(0, 2)}


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=1, max_size=30))
def test_rows_are_together_if_and_only_if_a_chain_of_groups_and_copies_links_them(pairs):
    group, copies = np.array(pairs).T
    joined = clusters(copies, ["group"], group=group)["group"]
    linked = (group[:, None] == group) | (copies[:, None] == copies)
    for _ in range(len(pairs)):
        linked = linked | (linked.astype(int) @ linked.astype(int) > 0)
    np.testing.assert_array_equal(joined[:, None] == joined, linked)
