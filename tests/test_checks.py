"""Leakage checks: each planted leak is caught by name and example, and clean records pass."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from pipelines.core.contract import InputError, Metric, Pipeline, Settings
from pipelines.core.data import leakage
from pipelines.core.data.dataset import record_hashes
from pipelines.core.data.splits import Splits
from pipelines.core.reading import sources
from pipelines.core.store import manifest, registry

DROP = Pipeline("toy", "Toy", Settings, Metric("roc_auc"), ())
REFUSE = replace(DROP, duplicates="refuse")
FEATURES = ("amount", "shop")


def clean(n: int = 300) -> tuple[pd.DataFrame, Splits]:
    """Payments in order of time, split in three, every third label positive."""
    rng = np.random.default_rng(0)
    time = pd.Timestamp("2024-01-01") + pd.to_timedelta(np.arange(n), unit="h")
    records = pd.DataFrame(
        {
            "number": [f"p{i}" for i in range(n)],
            "when": time.astype(str),
            "amount": rng.normal(size=n),
            "shop": rng.choice(["a", "b", None], n),
            "fraud": (np.arange(n) % 3 == 0).astype(int),
        }
    )
    records["id"], records["label"], records["time"] = records["number"], records["fraud"], time
    records.attrs["roles"] = {
        "id": "number",
        "label": "fraud",
        "time": "when",
        "amount": "amount",
        "entities": ["shop"],
    }
    return records, Splits(*np.split(np.arange(n), [n // 2, 3 * n // 4]))


def refusal(records, splits, pipeline=DROP, **options) -> str:
    with pytest.raises(InputError) as error:
        leakage.refuse_leaks(pipeline, records, splits, features=FEATURES, **options)
    return str(error.value)


def test_clean_records_pass_unchanged():
    records, splits = clean()
    records["group"] = np.repeat(["w", "x", "y", "z"], [150, 40, 35, 75])
    records["known_at"] = records["time"]
    checked = leakage.refuse_leaks(REFUSE, records, splits, features=FEATURES)
    assert checked.left_out == {}
    for side, rows in splits.sides().items():
        np.testing.assert_array_equal(checked.sides()[side], rows)


# Sides


@pytest.mark.parametrize("side", ["train", "validation", "test"])
def test_an_empty_side_is_refused_by_name(side):
    records, splits = clean()
    assert f"left for {side}" in refusal(records, replace(splits, **{side: np.array([], int)}))


@pytest.mark.parametrize("side", ["train", "validation", "test"])
def test_a_side_without_a_class_is_refused_by_name(side):
    records, splits = clean()
    rows = splits.sides()[side]
    message = refusal(records, replace(splits, **{side: rows[records["label"].to_numpy()[rows] == 0]}))
    assert f"class 1 among the 50 of {side}" in message or f"class 1 among the 100 of {side}" in message


def test_labels_of_one_class_alone_are_refused():
    records, splits = clean()
    assert "at least two classes" in refusal(records.assign(label=1), splits)


def test_quantities_as_labels_need_no_classes():
    records, splits = clean()
    records["label"] = np.linspace(0, 1, len(records))
    leakage.refuse_leaks(DROP, records, splits, features=FEATURES)


# Time


def test_sides_that_overlap_in_time_are_refused_with_both_records():
    records, splits = clean()
    records.loc[149, "time"] = records.loc[160, "time"]
    message = refusal(records, splits)
    assert "Train reaches 2024-01-07 16:00:00 (record p149)" in message
    assert "validation begins at 2024-01-07 06:00:00 (record p150)" in message


def test_sides_that_share_one_instant_are_refused():
    records, splits = clean()
    records.loc[225, "time"] = records.loc[224, "time"]
    assert "Validation reaches" in refusal(records, splits)


def test_a_label_known_when_the_next_side_begins_passes_and_one_known_later_is_refused():
    records, splits = clean()
    begin = records.loc[150, "time"]
    records["known_at"] = records["time"].clip(upper=begin).where(records.index < 150, records["time"])
    records.loc[7, "known_at"] = begin
    leakage.refuse_leaks(DROP, records, splits)
    records.loc[[7, 9], "known_at"] = begin + pd.Timedelta(1, "us")
    message = refusal(records, splits)
    assert "record p7 of train" in message
    assert "(2 such records)" in message


def test_a_validation_label_known_after_the_test_begins_or_never_is_refused():
    records, splits = clean()
    records["known_at"] = records["time"]
    records.loc[200, "known_at"] = pd.NaT
    assert "record p200 of validation" in refusal(records, splits)


def test_labels_of_the_test_may_be_known_at_any_time():
    records, splits = clean()
    records["known_at"] = records["time"]
    records.loc[225:, "known_at"] += pd.Timedelta(365, "D")
    leakage.refuse_leaks(DROP, records, splits)


# Groups


def test_a_group_on_two_sides_is_refused_with_a_record_of_each():
    records, splits = clean()
    records["group"] = np.arange(len(records)) + 1000
    records.loc[230, "group"] = 1003
    records.loc[231, "group"] = 1160
    message = refusal(records, splits)
    assert message.startswith("Group 1003 is in train (record p3) and in test (record p230) (2 such")


def test_records_without_a_group_belong_to_none():
    records, splits = clean()
    records["group"] = None
    leakage.refuse_leaks(DROP, records, splits)


@given(groups=arrays(int, 30, elements=st.integers(0, 20)), sides=arrays(int, 30, elements=st.integers(0, 3)))
def test_groups_are_refused_if_and_only_if_one_is_on_two_sides(groups, sides):
    labels = np.linspace(0, 1, 36)  # quantities, so that no half of validation can lack a class
    groups = np.concatenate([groups, [100, 100, 101, 101, 102, 102]])  # so that no side is empty
    sides = np.concatenate([sides, [0, 0, 1, 1, 2, 2]])  # side 3 is left out of the split
    records = pd.DataFrame({"id": range(36), "label": labels, "group": groups, "x": range(36)})
    splits = Splits(*(np.flatnonzero(sides == side) for side in range(3)))
    leaks = any(len(set(sides[(groups == group) & (sides < 3)])) > 1 for group in groups)
    if leaks:
        with pytest.raises(InputError, match="Group"):
            leakage.refuse_leaks(DROP, records, splits)
    else:
        leakage.refuse_leaks(DROP, records, splits)


# Identical records


@given(values=arrays(int, 40, elements=st.integers(0, 60)), sides=arrays(int, 40, elements=st.integers(0, 2)))
def test_duplicates_are_dropped_from_the_earlier_side_exactly(values, sides):
    values = np.concatenate([values, np.arange(100, 118)])  # three records of each class on each side that stay
    sides = np.concatenate([sides, np.repeat([0, 1, 2], 6)])
    records = pd.DataFrame({"id": range(58), "label": np.tile([0, 1], 29), "x": values})
    splits = Splits(*(np.flatnonzero(sides == side) for side in range(3)), left_out={"other": 1})
    checked = leakage.refuse_leaks(DROP, records, splits)
    later = [set(values[sides > side]) for side in range(3)]
    for side, rows in enumerate(checked.sides().values()):
        expected = [row for row in np.flatnonzero(sides == side) if values[row] not in later[side]]
        np.testing.assert_array_equal(rows, expected)
    dropped = sum(map(len, splits.sides().values())) - sum(map(len, checked.sides().values()))
    assert sum(checked.left_out.values()) == dropped + 1


def test_duplicates_are_refused_where_the_pipeline_says_so():
    records, splits = clean()
    records = records.drop(columns="time")
    records.loc[250, ["when", "amount", "shop", "fraud"]] = records.loc[10, ["when", "amount", "shop", "fraud"]]
    records["label"] = records["fraud"] = records["fraud"].astype(int)
    message = refusal(records, splits, REFUSE)
    assert "record p10 of train is identical to record p250 of validation or test" in message
    checked = leakage.refuse_leaks(DROP, records, splits)
    assert 10 not in checked.train
    assert list(checked.left_out.values()) == [1]


def test_a_side_that_duplicates_empty_is_refused_with_the_reason():
    records, _ = clean()
    twin = pd.concat([records.drop(columns="time")] * 2, ignore_index=True)
    message = refusal(twin, Splits(np.arange(300), np.arange(300, 400), np.arange(400, 600)))
    assert "left for train" in message
    assert "300 train records identical" in message


def test_a_digest_stands_for_the_record_where_there_is_one():
    records = pd.DataFrame({"id": [1, 2, 3], "label": 0, "digest": ["aa", "bb", "aa"], "path": ["1", "2", "3"]})
    hashes = record_hashes(records)
    assert hashes.dtype == np.uint64
    assert hashes[0] == hashes[2] != hashes[1]


def test_hashes_see_every_column_of_the_user_but_the_id():
    records, _ = clean(30)
    before = record_hashes(records)
    assert len(set(before)) == 30
    for column, value in [("when", "never"), ("amount", 9.0), ("shop", "z"), ("fraud", 7)]:
        changed = record_hashes(records.assign(**{column: records[column].where(records.index != 3, value)}))
        assert list(np.flatnonzero(changed != before)) == [3], column
    for column in ("number", "id", "label", "time"):
        np.testing.assert_array_equal(record_hashes(records.assign(**{column: 0})), before, err_msg=column)


def test_a_column_of_the_user_with_a_canonical_name_counts():
    records = pd.DataFrame({"id": [1, 2], "time": pd.to_datetime(["2024-01-01", "2024-01-02"]), "x": 0, "label": 0})
    records.attrs["roles"] = {"id": "id", "time": "time", "label": "label"}
    assert len(set(record_hashes(records))) == 2


def test_hashes_agree_however_the_same_values_were_read():
    records, _ = clean(30)
    records["settled"] = records["time"].astype("datetime64[us]")
    kinds = {"fraud": float, "shop": "category", "settled": "datetime64[s]"}
    other = records[sorted(records, reverse=True)].astype(kinds)
    other.attrs = records.attrs
    expected = pd.util.hash_pandas_object(
        records[["amount", "fraud", "settled", "shop", "when"]].astype({"fraud": float}), index=False
    )
    np.testing.assert_array_equal(record_hashes(records), expected)  # by name: the same in every process
    np.testing.assert_array_equal(record_hashes(other), expected)


# Columns that give the label away


def test_a_copy_of_the_label_is_refused_unless_allowed():
    records, splits = clean()
    records["amount"] = -records["label"]
    message = refusal(records, splits)
    assert "Column 'amount' alone" in message
    assert "AUC 0.0000" in message or "AUC 1.0000" in message
    assert "--allow-column amount" in message
    leakage.refuse_leaks(DROP, records, splits, ("amount",), FEATURES)


def noisy(auc_wanted: float, n: int = 20_000) -> tuple[pd.DataFrame, Splits]:
    """A column of two normals so far apart that its AUC is about the one wanted (binormal model)."""
    records, splits = clean(n)
    shift = norm.ppf(auc_wanted) * np.sqrt(2)
    records["amount"] = np.random.default_rng(1).normal(size=n) + shift * records["label"]
    return records, splits


@pytest.mark.parametrize(("auc_wanted", "refused"), [(0.985, False), (0.999, True)])
def test_the_limit_lies_between_a_strong_column_and_a_leak(auc_wanted, refused):
    records, splits = noisy(auc_wanted)
    if refused:
        assert "'amount'" in refusal(records, splits)
    else:
        leakage.refuse_leaks(DROP, records, splits, features=FEATURES)


@pytest.mark.parametrize(
    "leak",
    [
        lambda fraud: np.where(fraud, "chargeback", "settled"),
        lambda fraud: pd.Series(np.where(fraud, "yes", None)).astype("category"),
        lambda fraud: np.where(fraud, np.arange(len(fraud)) * 1.5, np.nan),
        lambda fraud: pd.Series(pd.to_datetime("2024-01-01")).repeat(len(fraud)).reset_index(drop=True).where(fraud),
        lambda fraud: np.where(fraud, 1, np.arange(len(fraud)) % 2 * 2),
        lambda fraud: pd.Series(np.where(fraud, 3, 4), dtype="Int64").where(np.arange(len(fraud)) % 7 > 0),
        lambda fraud: (
            pd.to_datetime(np.where(fraud, "2024-02", "2024-01")) + pd.to_timedelta(np.arange(len(fraud)), "h")
        ),
        lambda fraud: pd.to_datetime(np.where(fraud, 1e9, 0) + np.arange(len(fraud)), unit="s", utc=True),
        lambda fraud: fraud,
    ],
    ids=[
        "category",
        "filled",
        "number where fraud",
        "date where fraud",
        "middle code",
        "nullable",
        "date",
        "date with zone",
        "bool",
    ],
)
def test_a_leak_is_seen_whatever_form_it_has(leak):
    records, splits = clean()
    records["amount"] = leak((records["label"] == 1).to_numpy())
    assert "'amount'" in refusal(records, splits)


def test_a_leak_with_gaps_is_judged_where_it_has_values():
    records, splits = clean()
    records["amount"] = (records["label"] + np.linspace(0, 0.9, 300)).where(np.arange(300) % 5 > 0)
    assert "'amount'" in refusal(records, splits)


def test_a_column_that_names_each_record_tells_nothing_of_validation():
    records, splits = clean()
    records["shop"] = [f"{label}-{i}" for i, label in enumerate(records["label"])]
    leakage.refuse_leaks(DROP, records, splits, features=FEATURES)


def test_four_positives_are_too_few_to_judge_a_column_by():
    records, splits = clean()
    records["amount"] = records["label"]
    rows = splits.validation
    positive = records["label"].to_numpy()[rows] == 1
    for few in (4, 5):
        spread = np.linspace(0, positive.sum() - 1, few).astype(int)  # in both halves of validation
        chosen = np.sort(np.concatenate([rows[~positive], rows[positive][spread]]))
        if few == 4:
            leakage.refuse_leaks(DROP, records, replace(splits, validation=chosen), features=FEATURES)
        else:
            assert "'amount'" in refusal(records, replace(splits, validation=chosen))


def test_one_class_of_several_that_a_column_gives_away_is_named():
    records, splits = clean()
    records["label"] = np.arange(300) % 3
    records["shop"] = np.where(records["label"] == 1, "one", "other")
    assert "Column 'shop' alone tells class 1" in refusal(records, splits)


@given(st.data())
def test_the_auc_is_that_of_scikit_learn(data):
    labels = data.draw(arrays(bool, st.integers(2, 50)).filter(lambda drawn: 0 < drawn.sum() < len(drawn)))
    scores = data.draw(arrays(float, len(labels), elements=st.floats(-1e9, 1e9) | st.integers(-2, 2).map(float)))
    assert leakage.auc(labels, pd.Series(scores).rank().to_numpy()) == pytest.approx(roc_auc_score(labels, scores))


# Manifest


def test_the_manifest_counts_what_is_on_each_side(tmp_path):
    records, splits = clean()
    (tmp_path / "x.csv").write_text("a")
    splits.left_out["late"] = 3
    origin = sources.Origin("own", "x", tmp_path / "x.csv")
    summary, table = manifest.describe(records, splits, [origin])
    assert (summary["origin"], summary["name"], summary["left_out"]) == ("own", "x", {"late": 3})
    assert summary["sha256"] == sources.sha256(tmp_path / "x.csv")
    assert summary["train"]["rows"] == 150
    assert summary["train"]["labels"] == {"0": 100, "1": 50}
    assert summary["validation"]["time"] == ["2024-01-07T06:00:00", "2024-01-10T08:00:00"]
    assert list(table["side"].value_counts()[["train", "validation", "test"]]) == [150, 75, 75]
    table.to_parquet(tmp_path / "manifest.parquet")
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "manifest.parquet"), table)


def test_the_digest_of_a_side_sees_values_and_labels_but_not_their_order():
    records, splits = clean()

    def digest(records, splits):
        return manifest.describe(records, splits, [sources.Origin("demo", "demo")])[0]["train"]["sha256"]

    before = digest(records, splits)
    assert digest(records.iloc[::-1].reset_index(drop=True), replace(splits, train=299 - splits.train)) == before
    assert digest(records.assign(label=1 - records["label"]), splits) != before
    assert digest(records.assign(amount=records["amount"] + 1), splits) != before


def test_a_later_data_set_tells_which_records_and_groups_the_network_has_seen():
    records, splits = clean()
    records["group"] = [f"g{i // 15}" for i in range(300)]
    _, table = manifest.describe(records, splits, [sources.Origin("demo", "demo")])
    later = records.iloc[[0, 224, 225, 299]].assign(amount=[0, 0, 0, 0], group=["new", "g0", "g19", None])
    np.testing.assert_array_equal(manifest.learnt_from(table, records), np.arange(300) < 225)
    np.testing.assert_array_equal(manifest.learnt_from(table, later), [False, True, False, False])


# Real data


@pytest.mark.real
def test_the_scenario_of_the_handbook_payments_is_caught_and_nothing_else(real_data):
    records = pd.read_parquet(real_data / "fraud" / "handbook_transactions.parquet")
    features = [name for name in records if name not in ("TRANSACTION_ID", "TX_DATETIME", "TX_FRAUD")]
    records["id"], records["label"], records["time"] = (
        records[name] for name in ("TRANSACTION_ID", "TX_FRAUD", "TX_DATETIME")
    )
    records.attrs["roles"] = {"id": "TRANSACTION_ID", "label": "TX_FRAUD", "time": "TX_DATETIME"}
    day = records["time"].dt.normalize().rank(method="dense").to_numpy()
    splits = Splits(
        *(np.flatnonzero((day > start) & (day <= end)) for start, end in [(0, 120), (127, 150), (157, 183)])
    )
    with pytest.raises(InputError, match="TX_FRAUD_SCENARIO"):
        leakage.refuse_leaks(DROP, records, splits, features=features)
    leakage.refuse_leaks(DROP, records, splits, ("TX_FRAUD_SCENARIO",), features)


# Sides that a champion has fixed


def champion(monkeypatch, begin: str, features: str) -> registry.Version:
    """A version whose test period begins at `begin`."""
    summary = {"test": {"time": [begin, "2024-12-31"]}}
    monkeypatch.setattr(manifest, "load", lambda version: (summary, pd.DataFrame()))
    return registry.Version("toy", 7, "run", {"features": features})


def test_what_comes_before_the_test_period_of_the_champion_is_left_out_of_test(monkeypatch):
    records, splits = clean()
    bound = champion(monkeypatch, str(records["time"].iloc[260]), "amount\nshop")
    kept = manifest.keep_sides(splits, records, bound)
    np.testing.assert_array_equal(kept.test, np.arange(260, 300))
    assert kept.left_out == {"test records from before the test period of version 7": 35}


def test_records_that_are_all_from_before_it_are_refused_with_the_way_out(monkeypatch):
    records, splits = clean()
    with pytest.raises(InputError, match=r"75 test records are all from before 2030.* version 7 of toy .* --name"):
        manifest.keep_sides(splits, records, champion(monkeypatch, "2030-01-01", "amount"))
