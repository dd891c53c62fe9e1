"""Datasets: which record a row is, whatever file it was read from, several reads joined, and types kept in JSON."""

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.core.contract import InputError
from pipelines.core.data import typed_json
from pipelines.core.data.arrays import Encoded, Gathered
from pipelines.core.data.dataset import extended_classes, join, recoded, unique_ids
from pipelines.core.data.identity import cell_hashes, identities
from tests.builders import About, dataset, part

# ----------------------------------------------------------------------------------------------------------- identity


def records(count: int = 30) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "id": np.arange(count),
            "label": np.arange(count) % 2,
            "when": pd.Timestamp("2024-01-01") + pd.to_timedelta(np.arange(count), "h"),
            "amount": rng.normal(size=count),
            "shop": rng.choice(["a", "b", None], count),
            "items": rng.integers(0, 9, count),
        }
    )


KEY = ("when", "amount", "shop", "items")


def test_identity_depends_on_every_cell_of_the_key_and_on_nothing_else():
    table = records()
    before = identities(table, KEY)
    assert before.dtype == np.uint64
    assert len(set(before)) == len(table)
    for column, value in {"when": pd.Timestamp("2030-01-01"), "amount": 9.0, "shop": "z", "items": 77}.items():
        changed = identities(table.assign(**{column: table[column].where(table.index != 3, value)}), KEY)
        assert np.flatnonzero(changed != before).tolist() == [3], column
    other = table.assign(id=0, label=1, extra="new")
    np.testing.assert_array_equal(identities(other, KEY), before)


@given(st.permutations(range(30)), st.permutations(["id", "label", *KEY]), st.permutations(KEY))
def test_the_order_of_rows_and_columns_makes_no_difference(rows, columns, key):
    table = records()
    np.testing.assert_array_equal(identities(table.iloc[rows][columns], key), identities(table, KEY)[rows])


def test_identity_is_the_same_however_the_values_were_read():
    table = records()
    kinds = {"items": float, "shop": "category", "when": "datetime64[s]", "amount": object}
    np.testing.assert_array_equal(identities(table.astype(kinds), KEY), identities(table, KEY))


def test_identity_is_the_same_in_every_release():
    """Manifests of registered versions hold these numbers: a change here forgets what each of them has learnt from."""
    table = pd.DataFrame({"a": [1.5, np.nan], "b": ["x", "y"], "c": pd.to_datetime(["2024-01-02", "2024-01-03"])})
    assert identities(table, ("a", "b", "c")).tolist() == [3170241501535379926, 1722387034010302654]


def test_the_same_cells_in_other_columns_make_another_record():
    table = pd.DataFrame({"from": ["x", "y"], "to": ["y", "x"]})
    assert len(set(identities(table, ("from", "to")))) == 2


def test_a_digest_stands_for_the_record_where_it_is_the_key():
    table = pd.DataFrame({"id": [1, 2, 3], "digest": ["aa", "bb", "aa"], "path": ["1", "2", "3"]})
    one, two, again = dataset(table, ("digest",)).identity
    assert one == again != two


def test_records_without_a_column_of_the_key_are_refused():
    with pytest.raises(InputError, match="Expected the column 'shop', by which records are recognised"):
        identities(records().drop(columns="shop"), KEY)


def test_a_selection_keeps_the_identity_of_its_records():
    data = dataset(records(), KEY)
    rows = np.array([7, 2, 29])
    np.testing.assert_array_equal(data.take(rows).identity, data.identity[rows])
    np.testing.assert_array_equal(data.take(np.arange(30) > 20).identity, data.identity[21:])


# -------------------------------------------------------------------------------------------------------------- cells

ONES = {
    "int": pd.Series([1, 0]),
    "int8": pd.Series([1, 0], dtype="int8"),
    "unsigned": pd.Series([1, 0], dtype="uint64"),
    "float": pd.Series([1.0, 0.0]),
    "negative zero": pd.Series([1.0, -0.0]),
    "float32": pd.Series([1, 0], dtype="float32"),
    "nullable": pd.Series([1, 0], dtype="Int64"),
    "bool": pd.Series([True, False]),
    "nullable bool": pd.Series([True, False], dtype="boolean"),
    "text": pd.Series(["1", "0"]),
    "text of floats": pd.Series(["1.0", "0.00"]),
    "words of pandas": pd.Series(["True", "False"]),
    "objects": pd.Series([1, "0"], dtype=object),
    "category of text": pd.Series(["1", "0"], dtype="category"),
    "category of numbers": pd.Series([1, 0], dtype="category"),
}


@pytest.mark.parametrize("kind", ONES)
def test_one_is_one_however_it_is_written(kind):
    np.testing.assert_array_equal(cell_hashes(ONES[kind]), cell_hashes(pd.Series([1, 0])))


@pytest.mark.parametrize(
    "column",
    [
        pd.Series([np.nan, 1.0]),
        pd.Series([None, 1], dtype=object),
        pd.Series([None, "1"], dtype="str"),
        pd.Series([pd.NA, 1], dtype="Int64"),
        pd.Series([None, True], dtype="boolean"),
        pd.Series([None, "1"], dtype="category"),
        pd.Series([pd.NaT, pd.Timestamp("2024-01-01")]),
        pd.Series([pd.NaT, pd.Timestamp("2024-01-01", tz="UTC")]),
    ],
    ids=lambda column: str(column.dtype),
)
def test_missing_values_are_alike_and_no_other_value_is(column):
    missing = cell_hashes(pd.Series([np.nan]))[0]
    assert (cell_hashes(column) == missing).tolist() == [True, False]


LONG = [1234567890123456789, 1234567890123456788, 9007199254740993, 9007199254740992, -1234567890123456789]


@pytest.mark.parametrize("kind", ["int64", "Int64", object, str, "category"])
def test_integers_of_nineteen_digits_are_kept_apart_and_equal_their_text(kind):
    hashed = cell_hashes(pd.Series(LONG).astype(kind))
    assert len(set(hashed)) == len(LONG)
    np.testing.assert_array_equal(hashed, cell_hashes(pd.Series([str(number) for number in LONG])))


def test_a_long_integer_is_the_same_beside_a_missing_cell():
    expected = cell_hashes(pd.Series(LONG))
    for column in (pd.Series([*LONG, None], dtype="Int64"), pd.Series([*map(str, LONG), None])):
        np.testing.assert_array_equal(cell_hashes(column)[:-1], expected)


@given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=20, unique=True))
def test_integers_are_recognised_in_text_and_never_confused(numbers):
    hashed = cell_hashes(pd.Series(numbers, dtype="int64"))
    assert len(set(hashed)) == len(numbers)
    np.testing.assert_array_equal(hashed, cell_hashes(pd.Series([str(number) for number in numbers])))


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=20, unique=True))
def test_numbers_are_recognised_in_a_column_that_holds_text_as_well(numbers):
    """One odd cell makes a column text: the others are the records that they were."""
    numbers = [number for number in numbers if abs(number) < 2**53]
    hashed = cell_hashes(pd.Series([*map(repr, numbers), "unknown"]))
    np.testing.assert_array_equal(hashed[:-1], cell_hashes(pd.Series(numbers, dtype=float)))


def test_times_are_alike_in_every_unit_and_zone():
    naive = pd.Series(pd.to_datetime(["2024-01-31 12:00", "2024-07-01 00:30"]))
    expected = cell_hashes(naive)
    assert len(set(expected)) == 2
    aware = naive.dt.tz_localize("UTC")
    for column in (naive.astype("datetime64[s]"), naive.astype("datetime64[ns]"), aware):
        np.testing.assert_array_equal(cell_hashes(column), expected)
    np.testing.assert_array_equal(cell_hashes(aware.dt.tz_convert("Europe/Berlin")), expected)


def test_a_time_is_the_same_in_text_and_other_text_that_begins_with_a_date_is_not():
    """As CSV holds what Parquet holds as a time."""
    texts = pd.Series(["2024-01-31", "2024-01-31 12:00:00", "2024-01-31T12:00:00.25+02:00", "2024-01-31 noon", None])
    times = ["2024-01-31", "2024-01-31 12:00", "2024-01-31 10:00:00.25", None, None]
    same = cell_hashes(texts) == cell_hashes(pd.Series(pd.to_datetime(times, format="ISO8601")))
    assert same.tolist() == [True, True, True, False, True]


def test_texts_differ_by_case_and_fractions_in_nine_digits_and_whole_numbers_in_all():
    assert len(set(cell_hashes(pd.Series(["a", "A", "a ", "", "1", "l"])))) == 6
    assert len(set(cell_hashes(pd.Series([0.1, 0.1 + 1e-9])))) == 2
    assert len(set(cell_hashes(pd.Series([0.1, 0.1 + 1e-12, 3.0, 3.0 + 1e-12])))) == 2
    assert len(set(cell_hashes(pd.Series([1e15, 1e15 + 1])))) == 2


# --------------------------------------------------------------------------------------------- several reads as one


def read(names: str, begin: int = 0, notes: tuple[str, ...] = (), **columns: Any):
    """A read of as many records as there are names, one a day."""
    time = pd.Timestamp("2024-01-01") + pd.to_timedelta(begin + np.arange(len(names)), unit="D")
    table = {"id": np.arange(len(names)), "what": list(names), "label": 0, "time": time, **columns}
    return dataset(table, ("what", "time"), notes=notes)


def test_a_record_of_two_reads_is_kept_once_and_the_rest_is_in_order_of_time():
    records = join([read("cdef", begin=2), read("abcd")]).records
    assert "".join(records["what"]) == "abcdef"
    assert records["time"].is_monotonic_increasing
    assert records["id"].is_unique


def test_a_record_is_known_in_another_read_however_its_numbers_are_written():
    first = read("ab", amount=[1, 2])
    second = read("ab", amount=[1.0, 7.5])
    first, second = (dataset(one.records, ("what", "time", "amount")) for one in (first, second))
    assert join([first, second]).records["amount"].tolist() == [1, 2, 7.5]


def test_copies_within_one_read_are_left_as_they_are():
    first, second = (dataset({"what": ["a", "a"], "label": 0}, ("what",)) for _ in range(2))
    assert len(join([first])) == len(join([first, second])) == 2


def test_columns_that_a_read_lacks_are_left_out_with_a_note():
    for reads in ([read("ab"), read("cd", begin=2, tip=1.0)], [read("ab", tip=1.0), read("cd", begin=2)]):
        data = join(reads)
        assert "tip" not in data
        assert data.notes == ("tip is left out: not all of the joined files have it.",)


def test_a_column_of_the_key_that_a_read_lacks_is_no_longer_part_of_it():
    wide = read("abc", shop=["x", "y", "z"])
    data = join([dataset(wide.records, ("what", "time", "shop")), read("bcd", begin=1)])
    assert data.key == ("what", "time")
    assert "".join(data.records["what"]) == "abcd"


def test_what_was_recognised_is_that_of_the_last_read_and_notes_are_those_of_all_once():
    first, last = read("a", notes=("one", "both")), read("b", begin=1, notes=("both", "two"))
    last = dataset(last.records, last.key, about="last", notes=last.notes)
    data = join([first, last])
    assert data.about == "last"
    assert data.notes == ("one", "both", "two")


def test_numbers_and_texts_do_not_join():
    with pytest.raises(InputError, match=r"Column 'x': expected numbers in all files or in none"):
        join([read("ab", x=[1.0, 2.0]), read("cd", begin=2, x=["one", "two"])])


def test_an_identifier_of_two_different_records_is_refused_by_name():
    first, second = (read(names, key=[7, number]) for names, number in (("ab", 8), ("cd", 9)))
    with pytest.raises(InputError, match=r"Column 'key': .* Received: 7 for two that differ \(1 such\)"):
        join([first, second], key="key")


def test_ids_that_occur_twice_get_the_number_of_their_read_and_others_stay():
    ids, read = pd.Series([1, 2, 1, 3]), np.array([0, 0, 1, 1])
    assert unique_ids(ids, read).tolist() == ["1", "2", "2:1", "3"]
    assert unique_ids(pd.Series([1, 2, 3, 4]), read).tolist() == [1, 2, 3, 4]


def test_classes_only_grow_and_labels_follow_the_order_of_before():
    after = extended_classes(["cat", "ant"], ["ant", "bee", "cat"])
    assert after == ["cat", "ant", "bee"]
    assert recoded(pd.Series([0, 1, 2, -1]), ["ant", "bee", "cat"], after).tolist() == [1, 2, 0, -1]
    with pytest.raises(InputError, match="none of dog"):
        extended_classes(["cat", "dog"], ["ant", "bee", "cat"])


# -------------------------------------------------------------------------------------------------- arrays and parts


def test_rows_are_gathered_from_several_arrays_as_from_one():
    parts = [np.arange(6).reshape(3, 2), np.arange(6, 16).reshape(5, 2)]
    whole, places = np.concatenate(parts), np.array([7, 0, 3, 3, 2])
    gathered = Gathered(parts, places)
    assert gathered.shape == (5, 2)
    rows = np.array([4, 1, 0, 0])
    np.testing.assert_array_equal(gathered[rows], whole[places[rows]])


def test_only_inputs_that_are_slow_to_compute_are_put_in_memory():
    class Slow:
        shape, dtype = (3,), np.dtype(int)

        def materialised(self):
            return np.arange(3)

    plain = np.ones(3)
    encoded = Encoded({"slow": Slow(), "plain": plain}, {"label": plain}).materialised()
    np.testing.assert_array_equal(encoded.inputs["slow"], np.arange(3))
    assert encoded.inputs["plain"] is encoded.targets["label"] is plain


def test_labels_are_the_only_target_whatever_its_name_and_sign():
    rows = np.array([2, 0])
    assert part({"x": np.zeros(3)}, {"return": np.array([-1.5, 0.0, -0.25])}, rows).labels.tolist() == [-0.25, -1.5]
    with pytest.raises(ValueError, match="too many values to unpack"):
        _ = part({"x": np.zeros(3)}, {"low": np.zeros(3), "high": np.ones(3)}).labels


def test_targets_of_several_names_stay_beside_their_rows():
    targets = {"low": np.arange(6), "high": np.arange(12).reshape(6, 2)}
    some = part({"x": np.arange(6)}, targets).take(np.array([5, 1]))
    assert {name: values.tolist() for name, values in some.y().items()} == {"low": [5, 1], "high": [[10, 11], [2, 3]]}
    assert some.y(np.array([1]))["low"].tolist() == some.x(np.array([1]))["x"].tolist() == [1]


# --------------------------------------------------------------------------------------------------------------- JSON


@dataclass(frozen=True)
class Edges:
    column: str
    values: tuple[float, ...]


@dataclass(frozen=True)
class Learnt:
    edges: tuple[Edges, ...]
    codes: dict[str, tuple[str, ...]]
    pair: tuple[int, str]
    rate: float = 1.0
    first: Edges | None = None


LEARNT = Learnt((Edges("a", (0.1, 1e-300)), Edges("b", ())), {"shop": ("x", "y")}, (3, "z"), 1 / 3, Edges("c", (2.0,)))


@pytest.mark.parametrize("value", [LEARNT, Learnt((), {}, (0, "")), About()], ids=["nested", "empty", "no fields"])
def test_dataclasses_survive_json_with_tuples_and_what_is_nested_in_them(value):
    stored = json.loads(json.dumps(typed_json.to_json(value)))
    assert typed_json.from_json(type(value), stored) == value


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False)))
def test_numbers_survive_json_to_the_last_digit(values):
    value = Edges("x", tuple(values))
    assert typed_json.from_json(Edges, json.loads(json.dumps(typed_json.to_json(value)))) == value


@pytest.mark.parametrize("change", [{"column": 7}, {"values": "ab"}, {"column": None}])
def test_json_of_other_types_is_refused(change):
    with pytest.raises(pydantic.ValidationError):
        typed_json.from_json(Edges, {"column": "x", "values": [1.0]} | change)
    with pytest.raises(pydantic.ValidationError):
        typed_json.from_json(Edges, {"column": "x"})
