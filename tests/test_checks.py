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

from pipelines.core.contract import InputError
from pipelines.core.data import leakage, target_leakage
from pipelines.core.data.splits import Splits
from pipelines.core.reading import downloads
from pipelines.core.store import manifest, registry
from tests.builders import dataset

KEY = ("when", "amount", "shop")
CLASSES = ("honest", "fraud")
FEATURES = ("amount", "shop")


def clean(n: int = 300) -> tuple[pd.DataFrame, Splits]:
    """Payments in order of time, split in three, every third label positive."""
    rng = np.random.default_rng(0)
    time = pd.Timestamp("2024-01-01") + pd.to_timedelta(np.arange(n), unit="h")
    records = pd.DataFrame(
        {
            "id": [f"p{i}" for i in range(n)],
            "label": (np.arange(n) % 3 == 0).astype(int),
            "time": time,
            "when": time.astype(str),
            "amount": rng.normal(size=n),
            "shop": rng.choice(["a", "b", None], n),
        }
    )
    return records, Splits(*np.split(np.arange(n), [n // 2, 3 * n // 4]))


def checked(records, splits, classes=CLASSES, features=FEATURES, allow_column=()) -> Splits:
    """What the checks leave of the splits."""
    key = [name for name in KEY if name in records] or ["x"]
    return leakage.refuse_leaks(dataset(records, key), splits, classes, features, allow_column)


def refusal(records, splits, **options) -> str:
    with pytest.raises(InputError) as error:
        checked(records, splits, **options)
    return str(error.value)


def test_clean_records_pass_unchanged():
    records, splits = clean()
    records["group"] = np.repeat(["w", "x", "y", "z"], [150, 40, 35, 75])
    records["known_at"] = records["time"]
    kept = checked(records, splits)
    assert kept.left_out == {}
    for side, rows in splits.sides().items():
        np.testing.assert_array_equal(kept.sides()[side], rows)


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
    assert f"class 'fraud' among the {len(rows) * 2 // 3} of {side}" in message


def test_labels_of_one_class_alone_are_refused():
    records, splits = clean()
    assert "at least two classes are needed. Received: only fraud" in refusal(records.assign(label=1), splits)


def test_quantities_as_labels_need_no_classes():
    records, splits = clean()
    records["label"] = np.linspace(-1, 1, len(records))
    checked(records, splits, classes=())


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
    checked(records, splits, features=())
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
    checked(records, splits, features=())


# Groups


def test_a_group_on_two_sides_is_refused_with_a_record_of_each():
    records, splits = clean()
    records["group"] = np.arange(len(records)) + 1000
    records.loc[230, "group"] = 1003
    records.loc[231, "group"] = 1160
    message = refusal(records, splits)
    assert message.startswith("Group 1003 is in train (record p3) and in test (record p230) (2 such")


def test_groups_whose_names_differ_in_spelling_alone_are_told():
    records, splits = clean()
    names = np.array([f"patient_{i}" for i in np.arange(300) + 1000], object)
    names[[3, 170]] = "patient_7", "Patient-007"
    [warning] = checked(records.assign(group=names), splits).warnings
    assert "Groups patient_7 of train and Patient-007 of validation differ in spelling alone (1 such)" in warning
    names[170] = "patient_7_0"
    assert checked(records.assign(group=names), splits).warnings == ()


def test_records_without_a_group_belong_to_none():
    records, splits = clean()
    records["group"] = None
    checked(records, splits, features=())


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
            checked(records, splits, classes=(), features=())
    else:
        checked(records, splits, classes=(), features=())


# Identical records


@given(values=arrays(int, 40, elements=st.integers(0, 60)), sides=arrays(int, 40, elements=st.integers(0, 2)))
def test_duplicates_are_dropped_from_the_earlier_side_exactly(values, sides):
    values = np.concatenate([values, np.arange(100, 118)])  # three records of each class on each side that stay
    sides = np.concatenate([sides, np.repeat([0, 1, 2], 6)])
    records = pd.DataFrame({"id": range(58), "label": values % 2, "x": values})
    splits = Splits(*(np.flatnonzero(sides == side) for side in range(3)), left_out={"other": 1})
    kept = checked(records, splits, features=())
    later = [set(values[sides > side]) for side in range(3)]
    for side, rows in enumerate(kept.sides().values()):
        expected = [row for row in np.flatnonzero(sides == side) if values[row] not in later[side]]
        np.testing.assert_array_equal(rows, expected)
    dropped = sum(map(len, splits.sides().values())) - sum(map(len, kept.sides().values()))
    assert sum(kept.left_out.values()) == dropped + 1


def test_a_record_that_test_holds_too_is_dropped_from_train_whatever_its_label_says():
    records, splits = clean()
    records = records.drop(columns="time")
    records.loc[250, list(KEY)] = records.loc[10, list(KEY)]
    records.loc[250, "label"] = 1 - records.loc[10, "label"]
    kept = checked(records, splits)
    np.testing.assert_array_equal(kept.train, np.delete(splits.train, 10))
    assert kept.left_out == {"train records identical to one of validation or test": 1}


def test_a_side_that_duplicates_empty_is_refused_with_the_reason():
    records, _ = clean()
    twin = pd.concat([records.drop(columns="time")] * 2, ignore_index=True)
    message = refusal(twin, Splits(np.arange(300), np.arange(300, 400), np.arange(400, 600)))
    assert "left for train" in message
    assert "300 train records identical" in message


def test_identical_records_of_test_are_drawn_together_and_others_are_not():
    records, splits = clean()
    records = records.drop(columns="time")
    records.loc[[250, 260], list(KEY)] = records.loc[240, list(KEY)].to_numpy()
    assert checked(*clean()).copies is None
    tied = checked(records, splits).copies
    assert len(set(tied[[240, 250, 260]])) == 1
    assert len(set(tied)) == len(records) - 2


def test_one_record_under_two_labels_is_a_warning_with_its_ids_and_many_are_refused():
    records, splits = clean()
    records = records.drop(columns="time")
    records.loc[10, list(KEY)] = records.loc[9, list(KEY)]
    [warning] = checked(records, splits).warnings
    assert "2 records are equal to another in all but their label, such as p9 and p10 (1 contradictions)" in warning
    odd = np.arange(1, 300, 6)
    records.loc[odd, list(KEY)] = records.loc[odd - 1, list(KEY)].to_numpy()
    assert "contradict one another" in refusal(records, splits)


def test_records_alike_in_a_few_common_values_are_no_contradiction():
    records, splits = clean()
    records = records.drop(columns="time").assign(when=np.arange(300) // 100, amount=np.arange(300) % 7)
    assert "contradict" not in "".join(checked(records, splits, features=()).warnings)


# Columns that give the label away


def test_a_copy_of_the_label_is_refused_unless_allowed():
    records, splits = clean()
    records["amount"] = -records["label"]
    message = refusal(records, splits)
    assert "Column 'amount' alone" in message
    assert "AUC 0.0000" in message or "AUC 1.0000" in message
    assert "--allow-column amount" in message
    checked(records, splits, allow_column=("amount",))


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
        checked(records, splits)


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
    checked(records, splits)


@pytest.mark.parametrize(("few", "outcome"), [(4, "nothing"), (5, "warned"), (25, "refused")])
def test_a_column_is_refused_only_by_enough_positives(few, outcome):
    records, splits = clean()
    records["amount"] = records["label"] + np.linspace(0, 0.9, 300)  # no value is repeated
    rows = splits.validation
    positive = records["label"].to_numpy()[rows] == 1
    spread = np.linspace(0, positive.sum() - 1, few).astype(int)  # in both halves of validation
    chosen = replace(splits, validation=np.sort(np.concatenate([rows[~positive], rows[positive][spread]])))
    if outcome == "refused":
        assert "'amount'" in refusal(records, chosen)
    else:
        warnings = checked(records, chosen).warnings
        assert ["'amount'" in warning for warning in warnings] == [True] * (outcome == "warned")


def test_one_class_of_several_that_a_column_gives_away_is_named():
    records, splits = clean()
    records["label"] = np.arange(300) % 3
    records["shop"] = np.where(records["label"] == 1, "one", "other")
    assert "Column 'shop' alone separates class 'bee'" in refusal(records, splits, classes=("ant", "bee", "cat"))


@given(st.data())
def test_the_auc_is_that_of_scikit_learn(data):
    labels = data.draw(arrays(bool, st.integers(2, 50)).filter(lambda drawn: 0 < drawn.sum() < len(drawn)))
    scores = data.draw(arrays(float, len(labels), elements=st.floats(-1e9, 1e9) | st.integers(-2, 2).map(float)))
    assert target_leakage.auc(labels, pd.Series(scores).rank().to_numpy()) == pytest.approx(
        roc_auc_score(labels, scores)
    )


# Manifest

DEMO = [downloads.Origin("demo", "demo")]


def test_the_manifest_counts_what_is_on_each_side(tmp_path):
    records, splits = clean()
    (tmp_path / "x.csv").write_text("a")
    splits.left_out["late"] = 3
    origin = downloads.Origin("own", "x", tmp_path / "x.csv")
    summary, table = manifest.describe(dataset(records, KEY), splits, [origin])
    assert (summary["origin"], summary["name"], summary["left_out"]) == ("own", "x", {"late": 3})
    assert summary["key"] == list(KEY)
    assert summary["sha256"] == downloads.sha256(tmp_path / "x.csv")
    assert summary["train"]["rows"] == 150
    assert summary["train"]["labels"] == {"0": 100, "1": 50}
    assert summary["validation"]["time"] == ["2024-01-07T06:00:00", "2024-01-10T08:00:00"]
    assert list(table["side"].value_counts()[["train", "validation", "test"]]) == [150, 75, 75]
    table.to_parquet(tmp_path / "manifest.parquet")
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "manifest.parquet"), table)


def test_the_digest_of_a_side_sees_values_and_labels_but_not_their_order():
    records, splits = clean()

    def digest(records, splits):
        return manifest.describe(dataset(records, KEY), splits, DEMO)[0]["train"]["sha256"]

    before = digest(records, splits)
    assert digest(records.iloc[::-1].reset_index(drop=True), replace(splits, train=299 - splits.train)) == before
    assert digest(records.assign(label=1 - records["label"]), splits) != before
    assert digest(records.assign(amount=records["amount"] + 1), splits) != before
    assert digest(records.assign(label=records["label"].astype(float)), splits) == before


def test_quantities_are_labels_whatever_their_sign():
    records, splits = clean()
    records["label"] = np.linspace(-1, 1, len(records))
    summary, _ = manifest.describe(dataset(records, KEY), splits, DEMO)
    assert summary["train"]["rows"] == 150
    assert "labels" not in summary["train"]
    turned, _ = manifest.describe(dataset(records.assign(label=-records["label"]), KEY), splits, DEMO)
    assert summary["train"]["sha256"] != turned["train"]["sha256"]


def test_a_later_data_set_tells_which_records_and_groups_the_network_has_seen():
    records, splits = clean()
    records["group"] = [f"g{i // 15}" for i in range(300)]
    data = dataset(records, KEY)
    later = records.iloc[[0, 224, 225, 299]].assign(amount=[0, 0, 0, 0], group=["new", "g0", "g19", None])
    later = dataset(later, KEY)
    _, table = manifest.describe(data, splits, DEMO)
    np.testing.assert_array_equal(manifest.learnt_from(table, data, data.identity), np.arange(300) < 225)
    np.testing.assert_array_equal(manifest.learnt_from(table, later, later.identity), [False, True, False, False])


# Real data


@pytest.mark.real
def test_the_scenario_of_the_handbook_payments_is_caught_and_nothing_else(real_data):
    records = pd.read_parquet(real_data / "fraud" / "handbook_transactions.parquet")
    features = [name for name in records if name not in ("TRANSACTION_ID", "TX_DATETIME", "TX_FRAUD")]
    names = {"TRANSACTION_ID": "id", "TX_FRAUD": "label", "TX_DATETIME": "time"}
    data = dataset(records.rename(columns=names), ("id",))
    day = data.records["time"].dt.normalize().rank(method="dense").to_numpy()
    splits = Splits(
        *(np.flatnonzero((day > start) & (day <= end)) for start, end in [(0, 120), (127, 150), (157, 183)])
    )
    with pytest.raises(InputError, match="TX_FRAUD_SCENARIO"):
        leakage.refuse_leaks(data, splits, CLASSES, features)
    leakage.refuse_leaks(data, splits, CLASSES, features, ("TX_FRAUD_SCENARIO",))


# Sides that a champion has fixed


def champion(monkeypatch, begin: str, features: str) -> registry.Version:
    """A version whose test period begins at `begin`."""
    summary = {"test": {"time": [begin, "2024-12-31"]}}
    monkeypatch.setattr(manifest, "load", lambda version: (summary, pd.DataFrame()))
    return registry.Version("toy", 7, "run", {"features": features})


def test_what_comes_before_the_test_period_of_the_champion_is_left_out_of_test(monkeypatch):
    records, splits = clean()
    bound = champion(monkeypatch, str(records["time"].iloc[260]), "amount\nshop")
    kept = manifest.keep_sides(splits, dataset(records), bound)
    np.testing.assert_array_equal(kept.test, np.arange(260, 300))
    assert kept.left_out == {"test records from before the test period of version 7": 35}


def test_records_that_are_all_from_before_it_are_refused_with_the_way_out(monkeypatch):
    records, splits = clean()
    bound = champion(monkeypatch, "2030-01-01", "amount")
    with pytest.raises(InputError, match=r"75 test records are all from before 2030.* version 7 of toy .* --name"):
        manifest.keep_sides(splits, dataset(records), bound)
