"""Batches: what reaches the network, in which order, that it repeats, and scores made batch by batch."""

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.core.data.arrays import Part
from pipelines.core.training.batches import Batches, predict, prediction_batch_size
from pipelines.core.training.scoring import score, score_baseline
from tests.builders import part


def part_of(count: int) -> Part:
    return part({"number": np.arange(count, dtype=np.float32)}, np.arange(count) % 2, np.arange(count)[::2])


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

    some = part({"window": Window()}, np.zeros(1000, int), np.arange(0, 1000, 10))
    assert some.x(np.array([1, 2]))["window"].tolist() == [[10.0] * 3, [20.0] * 3]
    assert len(Batches(some, 5)) == 20
    assert Batches(some, 5)[19][0]["window"][:, 0].tolist() == [950, 960, 970, 980, 990]


def test_a_sample_is_part_of_the_part_in_ascending_order():
    drawn = part_of(100).sample(10, seed=0)
    assert len(drawn) == 10
    assert np.array_equal(drawn.rows, np.unique(drawn.rows))
    assert set(drawn.rows) <= set(range(0, 100, 2))
    assert part_of(10).sample(10, seed=0).rows.tolist() == [0, 2, 4, 6, 8]


def test_weights_are_ones_unless_the_records_carry_some():
    assert part_of(6).weights.tolist() == [1.0, 1.0, 1.0]
    weighted = part({"x": np.arange(6)}, rows=np.array([0, 2, 4]), records={"weight": [1, 2, 3, 4, 5, 6]})
    assert weighted.weights.tolist() == pytest.approx([1, 3, 5])


def test_a_target_of_several_columns_is_one_array():
    targets = np.stack([np.arange(6) * -0.1, np.arange(6) * 10.0], axis=1)
    some = part({"x": np.arange(6)}, {"targets": targets}, np.array([0, 2, 4]))
    assert some.labels == pytest.approx(np.array([[0, 0], [-0.2, 20], [-0.4, 40]]))
    assert Batches(some, 2)[1][1] == pytest.approx(np.array([[-0.4, 40]]))
    assert some.take(np.array([2])).labels == pytest.approx(np.array([[-0.4, 40]]))


def test_targets_of_several_names_reach_the_network_by_name_and_beside_their_rows():
    numbers = np.arange(50, dtype=np.float32)
    some = part({"number": numbers}, {"half": numbers / 2, "pair": np.stack([numbers, -numbers], axis=1)})
    batches = Batches(some, 7, seed=1, augment=lambda x, y, rng: (x, y | {"half": y["half"] * 2}))
    for at in range(len(batches)):
        x, y = batches[at]
        assert np.array_equal(y["half"], x["number"])
        assert np.array_equal(y["pair"], np.stack([x["number"], -x["number"]], axis=1))


@pytest.mark.parametrize("shape", [(4,), (128, 128, 3), (4_096, 4_096)])
def test_batches_for_prediction_shrink_as_rows_grow(shape):
    inputs = {"image": np.broadcast_to(np.uint8(0), (3, *shape)), "age": np.zeros((3, 1), np.float32)}
    rows, row = prediction_batch_size(part(inputs)), np.prod(shape) + 4  # bytes of a row
    assert 1 <= rows <= 8_192
    assert rows == 1 or rows * row <= 8 << 20
    assert rows == 8_192 or (rows + 1) * row > 8 << 20


# ------------------------------------------------------------------------------------------------------------ scoring


class Doubling:
    """Scores are twice the outputs; measures are of the row's label, its record and its score."""

    batch = None

    def scores(self, outputs, facts):
        return facts * outputs.astype(np.float64)

    def measures(self, scores, part):
        return {"error": scores - part.labels, "day": part.frame["day"].to_numpy(), "both": np.stack([scores] * 2, 1)}


@given(st.integers(1, 40), st.integers(1, 50))
def test_scoring_batch_by_batch_gives_the_measures_of_the_whole_at_once(count, size):
    rows = np.arange(2 * count)[::2]
    some = part({"x": np.arange(2.0 * count)}, -np.arange(2 * count), rows, {"day": np.arange(2 * count) % 7})
    sizes = []

    class InBatches(Doubling):
        batch = size

    def predict(part):
        sizes.append(len(part))
        return part.x()["x"].astype(np.float32)

    whole, by_batch = (score(predict, some, task, 2.0) for task in (Doubling(), InBatches()))
    assert sizes[0] == count == sum(sizes[1:])
    assert max(sizes[1:]) <= size
    for name, values in whole.measures.items():
        np.testing.assert_array_equal(by_batch.measures[name], values)
    np.testing.assert_array_equal(whole.scores, 2.0 * rows)
    np.testing.assert_array_equal(whole.outputs, rows)
    assert by_batch.scores is by_batch.outputs is None

    baseline = [score_baseline(lambda part: part.x()["x"] * 2.0, some, task) for task in (Doubling(), InBatches())]
    for found in baseline:
        for name, values in whole.measures.items():
            np.testing.assert_array_equal(found.measures[name], values)
        assert found.outputs is None
    assert baseline[1].scores is None


def test_a_network_with_several_outputs_answers_by_their_names():
    given = keras.Input((1,), name="x")
    outputs = {"same": keras.layers.Identity(name="same")(given), "twice": keras.layers.Rescaling(2.0)(given)}
    x = np.arange(7, dtype=np.float32)[:, None]
    found = predict(keras.Model({"x": given}, outputs), part({"x": x}, rows=np.array([6, 0, 3])))
    assert {name: values[:, 0].tolist() for name, values in found.items()} == {"same": [6, 0, 3], "twice": [12, 0, 6]}
    assert {values.dtype for values in found.values()} == {np.dtype(np.float32)}
