"""Batches: what reaches the network, in which order, and that it repeats."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.core.data.arrays import Part
from pipelines.core.training.batches import Batches, many


def part_of(count: int) -> Part:
    records = pd.DataFrame({"label": np.arange(count) % 2})
    return Part(records, np.arange(count)[::2], {"number": np.arange(count, dtype=np.float32)})


def seen(batches: Batches) -> list[float]:
    return [float(number) for batch in range(len(batches)) for number in batches[batch][0]["number"]]


@given(st.integers(1, 60), st.integers(1, 20), st.integers(0, 5), st.integers(0, 3))
def test_every_row_of_the_part_comes_exactly_once_in_every_epoch(count, batch_size, seed, epochs):
    batches = Batches(part_of(count), batch_size, seed)
    for _ in range(epochs):
        batches.on_epoch_end()
    assert sorted(seen(batches)) == list(range(0, count, 2))


def test_without_a_seed_rows_come_in_order_and_with_one_each_epoch_has_an_order_of_its_own():
    assert seen(Batches(part_of(100), 8)) == list(range(0, 100, 2))
    batches, again = Batches(part_of(100), 8, seed=3), Batches(part_of(100), 8, seed=3)
    first = seen(batches)
    assert first == seen(again) != list(range(0, 100, 2))
    batches.on_epoch_end()
    again.on_epoch_end()
    assert first != seen(batches) == seen(again)
    assert first != seen(Batches(part_of(100), 8, seed=4))


def test_augmentation_is_drawn_anew_for_each_record_and_epoch_and_does_not_depend_on_the_order_of_calls():
    def noise(x, y, rng):
        return {"number": x["number"] + rng.uniform(0.1, 0.9, len(y))}, y

    batches = Batches(part_of(64), 4, seed=0, augment=noise)
    forward = [batches[at][0]["number"] for at in range(len(batches))]
    backward = [batches[at][0]["number"] for at in reversed(range(len(batches)))][::-1]
    assert np.array_equal(forward, backward)
    fractions = np.concatenate(forward) % 1
    assert len(np.unique(fractions)) == len(fractions)
    batches.on_epoch_end()
    later = np.concatenate([batches[at][0]["number"] for at in range(len(batches))]) % 1
    assert not set(later) & set(fractions)


def test_labels_stay_beside_their_rows():
    batches = Batches(part_of(50), 7, seed=1)
    for at in range(len(batches)):
        x, y = batches[at]
        assert np.array_equal(x["number"] % 2, y)


def test_a_part_gathers_only_what_is_asked_for():
    class Window:
        shape, dtype = (1000, 3), np.float32

        def __getitem__(self, rows):
            assert len(rows) <= 5
            return np.repeat(rows[:, None], 3, axis=1).astype(np.float32)

    part = Part(pd.DataFrame({"label": np.zeros(1000, int)}), np.arange(0, 1000, 10), {"window": Window()})
    assert part.x(np.array([1, 2]))["window"].tolist() == [[10.0] * 3, [20.0] * 3]
    assert len(Batches(part, 5)) == 20
    assert Batches(part, 5)[19][0]["window"][:, 0].tolist() == [950, 960, 970, 980, 990]


def test_a_sample_is_part_of_the_part_in_ascending_order():
    drawn = part_of(100).sample(10, seed=0)
    assert len(drawn) == 10
    assert np.array_equal(drawn.rows, np.unique(drawn.rows))
    assert set(drawn.rows) <= set(range(0, 100, 2))
    assert part_of(10).sample(10, seed=0).rows.tolist() == [0, 2, 4, 6, 8]


def test_weights_are_ones_unless_the_records_carry_some():
    part = part_of(6)
    assert part.weights.tolist() == [1.0, 1.0, 1.0]
    weighted = Part(part.records.assign(weight=[1, 2, 3, 4, 5, 6]), part.rows, part.inputs)
    assert weighted.weights.tolist() == pytest.approx([1, 3, 5])


def test_targets_that_the_records_name_take_the_place_of_the_label():
    part = part_of(6)
    part.records["near"], part.records["far"] = np.arange(6) * 0.1, np.arange(6) * 10.0
    part.records.attrs["targets"] = ["near", "far"]
    assert part.labels == pytest.approx(np.array([[0, 0], [0.2, 20], [0.4, 40]]))
    assert Batches(part, 2)[1][1] == pytest.approx(np.array([[0.4, 40]]))
    assert part.take(np.array([2])).labels == pytest.approx(np.array([[0.4, 40]]))


@pytest.mark.parametrize("shape", [(4,), (128, 128, 3), (4_096, 4_096)])
def test_batches_for_prediction_shrink_as_rows_grow(shape):
    inputs = {"image": np.broadcast_to(np.uint8(0), (3, *shape)), "age": np.zeros((3, 1), np.float32)}
    part = Part(pd.DataFrame({"label": [0, 1, 0]}), np.arange(3), inputs)
    held = np.prod(shape) + 4  # bytes of a row
    assert 1 <= many(part) <= 8_192
    assert many(part) == 1 or many(part) * held <= 8 << 20
    assert many(part) == 8_192 or (many(part) + 1) * held > 8 << 20
