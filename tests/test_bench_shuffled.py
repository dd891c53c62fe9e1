"""The bench of shuffled labels: what it shuffles, and what it does not let pass."""

import numpy as np
import pandas as pd
import pytest

from bench import shuffled
from tests.builders import dataset
from tests.small import small


def table(**counts):
    return pd.DataFrame({name: dict(zip(shuffled.KINDS, of_kinds, strict=True)) for name, of_kinds in counts.items()}).T


@pytest.mark.parametrize(
    ("counts", "told"),
    [
        ((0, 0, 40), []),
        ((0, 2, 38), []),
        ((0, 3, 37), ["challengers. Received: 3"]),
        ((1, 0, 39), ["no champion. Received: 1"]),
    ],
)
def test_a_champion_or_a_third_challenger_is_a_fault(counts, told):
    found = shuffled.faults(table(stocks=counts, fraud=(0, 0, 40)))
    assert len(found) == len(told)
    assert all(words in sentence and "stocks" in sentence for words, sentence in zip(told, found, strict=True))


def test_labels_are_permuted_among_the_labelled_records_and_nothing_else_is_changed():
    label, labelled = np.arange(100) % 7, np.arange(100) % 10 > 0
    data = dataset({"x": np.arange(100.0), "label": np.where(labelled, label, -1), "labelled": labelled})
    found = shuffled.shuffled(data, 0).records
    pd.testing.assert_frame_equal(found.drop(columns="label"), data.records.drop(columns="label"))
    assert (found["label"][~labelled] == -1).all()
    assert sorted(found["label"]) == sorted(data.records["label"])
    assert (found["label"] != data.records["label"]).sum() > 50
    assert not found["label"].equals(shuffled.shuffled(data, 1).records["label"])


def test_the_small_data_are_part_of_the_demo_and_can_be_split():
    for name in shuffled.QUICK:
        case = small(name)
        assert len(case.data) < 15_000
        assert all(map(len, case.splits.sides().values()))


def test_a_network_is_judged_as_a_first_model_and_nothing_is_stored(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    case = small("blobs")
    assert shuffled.decision(case.pipeline, shuffled.shuffled(case.data, 0), case.settings) in shuffled.KINDS
    assert list(tmp_path.iterdir()) == []
