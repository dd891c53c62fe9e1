"""Drift between two sets of records: its measure, what is said of it, and what is refused."""

import json
from dataclasses import dataclass, replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from pipelines.core.contract import Capabilities, InputError, Metric, Pipeline, Settings
from pipelines.core.data.dataset import Dataset
from pipelines.core.data.splits import Splits
from pipelines.core.evaluation import drift
from pipelines.core.evaluation.drift import binned, counts, psi
from pipelines.core.reading import downloads
from pipelines.core.review import compatibility
from pipelines.core.store import manifest, registry
from pipelines.medical_images import data as images
from pipelines.speech_commands import audio
from tests.builders import dataset

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


@dataclass(frozen=True)
class About:
    size: int = 28


@dataclass(frozen=True)
class Facts:
    features: tuple[str, ...]
    size: int
    notes: tuple[str, ...] = ()


def payments(seed: int, rows: int = 600, shift: float = 0.0, about: About = About(), **changes) -> Dataset:
    rng = np.random.default_rng(seed)
    shop = rng.choice(["x", "y"], rows)
    table = pd.DataFrame(
        {"id": np.arange(rows), "label": np.arange(rows) % 2, "amount": rng.normal(shift, 1, rows), "shop": shop}
    )
    return dataset(table.assign(**{"labelled": True, **changes}), ("amount", "shop"), about=about)


def learn(train: Dataset, settings: Settings) -> Facts:
    features = [name for name in train.records if name not in ("id", "label", "labelled")]
    return Facts(tuple(features), train.about.size)


def columns(facts: Facts) -> dict:
    return {name: ("string" if name == "shop" else "double", True) for name in facts.features}


class Toy(Pipeline):
    data = SimpleNamespace(learn=learn, columns=columns, CAPABILITIES=Capabilities(fixed=("size",)))
    task = SimpleNamespace(kind="classes", classes=lambda facts: ("honest", "fraud"))


TOY = Toy("toy", "A toy", Settings, Metric("roc_auc"), ())
CHAMPION = registry.Version("toy", 3, "run", {})
DEMO = downloads.Origin("demo", "demo")


@pytest.fixture
def champion(monkeypatch):
    """A version that was trained on the first 400 of 600 payments."""
    data = payments(0)
    splits = Splits(*np.split(np.arange(600), [400, 500]))
    summary, table = manifest.describe(data, splits, [DEMO])
    summary |= compatibility.profile(TOY, data.take(splits.train), learn(data, Settings()))
    monkeypatch.setattr(manifest, "load", lambda version: (summary, table))
    return CHAMPION


def compared(data, champion, pipeline=TOY):
    return compatibility.compare(pipeline, data, champion, Settings())


def test_the_same_records_have_nothing_new(champion):
    found = compared(payments(0), champion)
    assert found.records == (600, 0)
    assert found.items() == []
    assert found.sentences()[1:] == ["Schema: no difference."]


def test_new_records_alone_are_measured_and_a_shift_is_warned_of_by_name(champion):
    both = [payments(0).records, payments(1, shift=1.0).records]
    later = replace(payments(0), records=pd.concat(both, ignore_index=True))
    found = compared(later, champion)
    assert found.records == (1200, 600)
    by_name = found.table.set_index("column")["PSI"]
    assert by_name["amount"] > 0.5
    assert by_name[["shop", "label"]].max() < 0.05
    assert "amount" in found.warning
    assert "shop" not in found.warning
    assert [item[0] for item in found.items()] == ["drift", "drift in figures"]


def test_records_like_the_old_ones_raise_no_warning(champion):
    assert compared(payments(2), champion).warning == ""


def test_a_few_records_are_measured_but_nothing_is_made_of_it(champion):
    found = compared(payments(1, rows=50, shift=3.0), champion)
    assert found.table["PSI"].max() > compatibility.WARN
    assert found.warning == ""
    assert "much of the PSI is chance" in found.sentences()[-1]


def test_other_shares_of_the_labels_are_warned_of_with_what_they_spoil(champion):
    found = compared(payments(1, label=lambda records: (records["id"] % 10 == 0).astype(int)), champion)
    assert "label" in found.warning
    assert "calibrated" in found.warning
    assert found.shares["label"][0] == ["honest", "fraud", "others", "missing"]


def test_records_without_a_label_count_as_missing_and_not_as_a_class(champion):
    found = compared(payments(1, labelled=lambda records: records["id"] < 300, label=0), champion)
    then, now = found.shares["label"][1:]
    assert then == pytest.approx([0.5, 0.5, 0, 0])
    assert now == pytest.approx([0.5, 0, 0, 0.5])


def quantities(seed: int, **changes) -> Dataset:
    return payments(seed, label=lambda records: -1 - records["id"] / 600, **changes)


def test_a_quantity_below_zero_is_a_label_as_any_other(monkeypatch):
    """Returns, energies and temperatures have any sign; only those that are not labelled are missing."""

    class Returns(Toy):
        task = SimpleNamespace(kind="quantity", classes=lambda facts: ())

    pipeline, data = Returns("toy", "A toy", Settings, Metric("mse"), ()), quantities(0)
    summary, table = manifest.describe(data, Splits(*np.split(np.arange(600), [400, 500])), [DEMO])
    summary |= compatibility.profile(pipeline, data, learn(data, Settings()))
    assert summary["reference"]["label"]["counts"][-1] == 0
    assert summary["reference"]["label"]["median"] == pytest.approx(-1.5, abs=0.01)
    monkeypatch.setattr(manifest, "load", lambda version: (summary, table))
    half = quantities(1, labelled=lambda records: records["id"] % 2 == 0)
    assert compared(half, CHAMPION, pipeline).shares["label"][2][-1] == pytest.approx(0.5)


def test_a_task_without_a_label_has_no_drift_of_labels(monkeypatch):
    class Masks(Toy):
        task = SimpleNamespace(kind="none", classes=lambda facts: ())

    data = payments(0)
    data = replace(data, records=data.records.drop(columns="label"))
    pipeline = Masks("toy", "A toy", Settings, Metric("iou"), ())
    assert set(compatibility.profile(pipeline, data, learn(data, Settings()))["reference"]) == {"amount", "shop"}


def without(data: Dataset, *names: str) -> Dataset:
    return replace(data, records=data.records.drop(columns=list(names)))


def test_a_missing_column_is_refused_with_the_way_out_and_their_order_is_not(champion):
    with pytest.raises(InputError, match=r"lack the column 'shop'.*version 3 of toy.*--name"):
        compared(without(payments(1), "shop"), champion)
    turned = replace(payments(1), records=payments(1).records.iloc[:, ::-1])
    assert compared(turned, champion).notes == ["Schema: no difference."]


def test_a_column_by_which_the_version_recognises_records_is_missed_by_name(champion, monkeypatch):
    """Even where no feature is missing."""
    monkeypatch.setattr(TOY.data, "columns", lambda facts: {})
    with pytest.raises(InputError, match="Expected the column 'shop', by which records are recognised"):
        manifest.identities_for(champion, without(payments(1), "shop"))


def test_a_column_of_another_type_is_refused(champion, monkeypatch):
    monkeypatch.setattr(TOY.data, "columns", lambda facts: dict.fromkeys(facts.features, ("string", True)))
    with pytest.raises(InputError, match=r"'amount': expected double, as in version 3 of toy.*Received: string"):
        compared(payments(1), champion)


def test_another_size_is_refused(champion):
    with pytest.raises(InputError, match=r"size 28, as in version 3 of toy.*--name.*Received: size 64"):
        compared(payments(1, about=About(64)), champion)


def test_extra_columns_and_new_classes_are_told_and_refuse_nothing(champion):
    assert compared(payments(1, tip=1.0), champion).notes == ["Extra columns: tip."]
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


def test_records_are_recognised_by_their_key_and_not_by_their_ids():
    assert not np.isin(payments(1).identity, payments(0).identity).any()
    assert np.isin(payments(0, id=lambda records: records["id"] + 7).identity, payments(0).identity).all()


def test_scores_that_tie_are_counted_in_bins_that_differ():
    scores = pd.Series(np.repeat([0.0, 0.1, 0.9], [80, 15, 5]))
    column = binned(scores)
    assert sum(column["counts"]) == 100
    assert len(set(column["edges"])) == len(column["edges"])
    assert counts(scores, column).tolist() == column["counts"]
    assert json.loads(json.dumps(column)) == column
