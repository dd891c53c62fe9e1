"""Drift between two sets of records: its measure, what is told of it, and what is refused."""

import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from pipelines.core.contract import InputError, Metric, Pipeline, Settings
from pipelines.core.data.dataset import record_hashes
from pipelines.core.data.splits import Splits
from pipelines.core.evaluation import drift
from pipelines.core.evaluation.drift import binned, counts, psi
from pipelines.core.reading import sources
from pipelines.core.review import compatibility
from pipelines.core.store import manifest, registry
from pipelines.medical_images import data as images
from pipelines.speech_commands import audio

COUNTS = arrays(np.int64, 6, elements=st.integers(0, 5_000)).filter(lambda counts: counts.sum() > 0)


@given(COUNTS, COUNTS)
def test_the_index_is_zero_for_equal_shares_and_never_negative_and_takes_no_side(a, b):
    assert psi(a, a) == 0
    assert psi(a, b) >= 0
    assert psi(a, b) == pytest.approx(psi(b, a))


def test_the_index_of_two_bins_is_that_of_the_formula():
    """With many records the half that is added to each bin is not seen."""
    by_hand = (0.7 - 0.5) * np.log(0.7 / 0.5) + (0.3 - 0.5) * np.log(0.3 / 0.5)
    assert psi(np.array([5_000_000, 5_000_000]), np.array([7_000_000, 3_000_000])) == pytest.approx(by_hand)


def test_without_drift_the_index_is_as_small_as_its_distribution_says():
    """Yurdakul (2018): (bins - 1)(1 / n + 1 / m) on average, where nothing has changed."""
    rng = np.random.default_rng(0)
    found = [psi(*rng.multinomial([400, 900], np.full(10, 0.1))) for _ in range(300)]
    assert np.mean(found) == pytest.approx(9 * (1 / 400 + 1 / 900), rel=0.1)


def test_p_values_of_ordered_bins_are_at_least_those_of_the_whole_samples():
    rng = np.random.default_rng(1)
    for shift in (0, 0.1, 0.5):
        then, now = rng.normal(size=2_000), rng.normal(shift, size=1_000)
        bins = binned(pd.Series(then))
        p, test = drift.p_value(np.array(bins["counts"]), counts(pd.Series(now), bins), ordered=True)
        assert test == "KS"
        assert p >= stats.ks_2samp(then, now, method="asymp").pvalue * 0.99


def test_bins_are_deciles_of_numbers_and_values_of_texts_with_what_is_missing_apart():
    bins = binned(pd.Series(np.arange(1000.0)))
    assert bins["counts"] == [100] * 10 + [0]
    assert counts(pd.Series([-5.0, 5000.0, np.nan]), bins).tolist() == [1, *[0] * 8, 1, 1]
    texts = binned(pd.Series(["a", "a", "b", None]))
    assert (texts["values"], texts["counts"]) == (["a", "b"], [2, 1, 0, 1])
    assert counts(pd.Series(["c", "b", None]), texts).tolist() == [0, 1, 1, 1]


def test_a_column_of_few_values_keeps_them_apart():
    bins = binned(pd.Series([0.0] * 95 + [1.0] * 5))
    assert counts(pd.Series([0.0, 1.0, 1.0]), bins).tolist()[:2] == [1, 2]


# Against a champion


def payments(seed: int, rows: int = 600, shift: float = 0.0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    shop = rng.choice(["x", "y"], rows)
    return pd.DataFrame(
        {"id": np.arange(rows), "label": np.arange(rows) % 2, "amount": rng.normal(shift, 1, rows), "shop": shop}
    )


def learn(train: pd.DataFrame, settings: Settings) -> dict:
    return {"features": [name for name in train if name not in ("id", "label")], "size": train.attrs.get("size", 28)}


def columns(facts: dict) -> dict:
    return {name: ("string" if name == "shop" else "double", True) for name in facts["features"]}


class Toy(Pipeline):
    data = SimpleNamespace(learn=learn, columns=columns, FIXED=("size",))


TOY = Toy("toy", "A toy", Settings, Metric("roc_auc"), ())
CHAMPION = registry.Version("toy", 3, "run", {})


@pytest.fixture
def champion(monkeypatch):
    """A version that was trained on the first 400 of 600 payments."""
    records = payments(0)
    splits = Splits(*np.split(np.arange(600), [400, 500]))
    summary, table = manifest.describe(records, splits, [sources.Origin("demo", "demo")])
    summary |= compatibility.profile(TOY, records.iloc[splits.train], learn(records, Settings()))
    monkeypatch.setattr(manifest, "load", lambda version: (summary, table))
    return CHAMPION


def compared(records, champion):
    return compatibility.compare(TOY, records, champion, Settings())


def test_the_same_records_have_nothing_new(champion):
    found = compared(payments(0), champion)
    assert found.records == (600, 0)
    assert found.items() == []
    assert found.said()[1:] == ["Schema: no difference."]


def test_new_records_alone_are_measured_and_a_shift_is_warned_of_by_name(champion):
    later = pd.concat([payments(0), payments(1, shift=1.0)], ignore_index=True)
    found = compared(later, champion)
    assert found.records == (1200, 600)
    by_name = found.table.set_index("column")["PSI"]
    assert by_name["amount"] > 0.5
    assert by_name[["shop", "label"]].max() < 0.05
    assert "amount" in found.warning
    assert "shop" not in found.warning
    assert [name for name, _ in found.items()] == ["drift", "drift in figures"]


def test_records_like_the_old_ones_raise_no_warning(champion):
    assert compared(payments(2), champion).warning == ""


def test_a_few_records_are_measured_but_nothing_is_made_of_it(champion):
    found = compared(payments(1, rows=50, shift=3.0), champion)
    assert found.table["PSI"].max() > compatibility.WARN
    assert found.warning == ""
    assert "much of the PSI is chance" in found.said()[-1]


def test_other_shares_of_the_labels_are_told_with_what_they_spoil(champion):
    found = compared(payments(1).assign(label=lambda records: (records["id"] % 10 == 0).astype(int)), champion)
    assert "label" in found.warning
    assert "calibrated" in found.warning


def test_a_missing_column_is_refused_with_the_way_out_and_their_order_is_not(champion):
    with pytest.raises(InputError, match=r"lack the column 'shop'.*version 3 of toy.*--name"):
        compared(payments(1).drop(columns="shop"), champion)
    assert compared(payments(1)[["shop", "amount", "label", "id"]], champion).notes == ["Schema: no difference."]


def test_a_column_of_another_type_is_refused(champion, monkeypatch):
    monkeypatch.setattr(TOY.data, "columns", lambda facts: dict.fromkeys(facts["features"], ("string", True)))
    with pytest.raises(InputError, match=r"'amount': expected double, as in version 3 of toy.*Received: string"):
        compared(payments(1), champion)


def test_another_size_is_refused(champion):
    records = payments(1)
    records.attrs["size"] = 64
    with pytest.raises(InputError, match=r"size 28, as in version 3 of toy.*--name.*Received: size 64"):
        compared(records, champion)


def test_extra_columns_and_new_classes_are_told_and_refuse_nothing(champion):
    assert compared(payments(1).assign(tip=1.0), champion).notes == ["Extra columns: tip."]
    before = {"columns": {}, "fixed": {}, "classes": ["cat", "dog"]}
    assert compatibility._differences(before, before | {"classes": ["dog", "owl"]}) == [
        "New classes: owl.",
        "Classes without a record: cat.",
    ]


# What is measured


def test_a_blurred_image_is_less_sharp_and_a_brighter_one_has_a_higher_mean():
    rng = np.random.default_rng(0)
    sharp = rng.integers(0, 200, (1, 32, 32, 1)).astype(np.uint8)
    blurred = (sharp // 2 + np.roll(sharp, 1, axis=1) // 2).astype(np.uint8)
    (one, two, three) = images._measured(np.concatenate([sharp, blurred, sharp + 50]))
    assert two[2] < one[2]
    assert three[0] == pytest.approx(one[0] + 50)
    assert three[1] == pytest.approx(one[1])


def test_a_tone_has_its_loudness_peak_and_frequency():
    rate = 8_000
    tone = np.sin(2 * np.pi * 1_000 * np.arange(rate) / rate)
    half = np.concatenate([tone[: rate // 2], np.zeros(rate // 2)])
    found = audio.measured(np.rint(np.stack([tone, half]) * 16_384).astype(np.int16), rate)
    assert found["peak"][0] == pytest.approx(20 * np.log10(0.5), abs=0.01)
    assert found["loudness"][0] == pytest.approx(20 * np.log10(0.5) - 10 * np.log10(2), abs=0.01)
    assert found["centroid"][0] == pytest.approx(1_000, abs=1)
    assert found["voiced"].tolist() == [1.0, 0.5]


def test_silence_is_measured_without_a_fault():
    found = audio.measured(np.zeros((1, 8_000), np.int16), 8_000)
    assert np.isfinite(found.to_numpy()).all()


def test_records_know_each_other_by_what_they_say():
    assert not np.isin(record_hashes(payments(1)), record_hashes(payments(0))).any()


def test_scores_that_tie_are_counted_in_bins_that_differ():
    scores = pd.Series(np.repeat([0.0, 0.1, 0.9], [80, 15, 5]))
    column = binned(scores)
    assert sum(column["counts"]) == 100
    assert len(set(column["edges"])) == len(column["edges"])
    assert counts(scores, column).tolist() == column["counts"]
    assert json.loads(json.dumps(column)) == column
