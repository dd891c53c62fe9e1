"""Multiply-adds of a network, against figures computed by hand."""

import keras
import pytest
from keras import layers

from pipelines.core.training import cost


def network(layer, *shapes, **call):
    inputs = [keras.Input(shape) for shape in shapes]
    return keras.Model(inputs, layer(*inputs, **call))


@pytest.mark.parametrize(
    ("layer", "shapes", "expected"),
    [
        (layers.Dense(4), [(27,)], 27 * 4),
        (layers.Dense(4), [(5, 6, 3)], 5 * 6 * 3 * 4),
        (layers.EinsumDense("abc,cde->abde", (None, 2, 7)), [(5, 3)], 5 * 3 * 2 * 7),
        (layers.EinsumDense("abcd,cde->abe", (None, 6)), [(5, 2, 3)], 5 * 2 * 3 * 6),
        (layers.EinsumDense("...x,xy->...y", 4), [(5, 6, 3)], 5 * 6 * 3 * 4),
        (layers.Conv1D(4, 3, padding="same"), [(10, 2)], 10 * 3 * 2 * 4),
        (layers.Conv1D(4, 3, padding="causal", dilation_rate=4), [(10, 2)], 10 * 3 * 2 * 4),
        (layers.Conv2D(3, 3), [(5, 5, 2)], 3 * 3 * 3 * 3 * 2 * 3),
        (layers.Conv2D(3, 3, strides=2, padding="same"), [(6, 6, 2)], 3 * 3 * 3 * 3 * 2 * 3),
        (layers.Conv2D(6, 3, dilation_rate=2), [(7, 7, 2)], 3 * 3 * 3 * 3 * 2 * 6),
        (layers.Conv2D(6, 3, groups=2), [(5, 5, 4)], 3 * 3 * 3 * 3 * 2 * 6),
        (layers.Conv3D(2, 2), [(3, 3, 3, 5)], 2**3 * 2**3 * 5 * 2),
        (layers.Conv2DTranspose(3, 4, strides=2, padding="same"), [(5, 5, 2)], 5 * 5 * 4 * 4 * 2 * 3),
        (layers.DepthwiseConv2D(3, depth_multiplier=2), [(5, 5, 4)], 3 * 3 * 3 * 3 * 4 * 2),
        (layers.DepthwiseConv1D(3), [(7, 4)], 5 * 3 * 4),
        (layers.SeparableConv2D(6, 3), [(5, 5, 4)], 3 * 3 * (3 * 3 * 4 + 4 * 6)),
        (layers.SimpleRNN(4), [(10, 3)], 10 * (3 * 4 + 4 * 4)),
        (layers.GRU(4), [(10, 3)], 10 * 3 * (3 * 4 + 4 * 4)),
        (layers.LSTM(4, return_sequences=True), [(10, 3)], 10 * 4 * (3 * 4 + 4 * 4)),
        (layers.RNN([layers.GRUCell(4), layers.LSTMCell(5)]), [(10, 3)], 10 * (3 * 7 * 4 + 4 * 9 * 5)),
        (layers.Bidirectional(layers.LSTM(4)), [(10, 3)], 2 * 10 * 4 * (3 * 4 + 4 * 4)),
        (layers.ConvLSTM2D(2, 3, padding="same"), [(4, 5, 5, 3)], 4 * 25 * 4 * (9 * 3 * 2 + 9 * 2 * 2)),
        (layers.TimeDistributed(layers.Conv2D(3, 3)), [(7, 5, 5, 2)], 7 * 9 * 9 * 2 * 3),
        (layers.TimeDistributed(keras.Sequential([layers.Dense(4), layers.Dense(2)])), [(7, 3)], 7 * (12 + 8)),
        (layers.SpectralNormalization(layers.Dense(4)), [(27,)], 27 * 4),
        # 6 queries of 8 and 5 values of 7; 2 heads, keys of 3, values of 4: projections, then both products.
        (
            layers.MultiHeadAttention(2, 3, value_dim=4),
            [(6, 8), (5, 7)],
            6 * 8 * 6 + 5 * 7 * 6 + 5 * 7 * 8 + 6 * 8 * 8 + 2 * 6 * 5 * (3 + 4),
        ),
        # Along the second of two axes only: each of 6 rows has 5 x 5 pairs.
        (
            layers.MultiHeadAttention(2, 3, attention_axes=(2,)),
            [(6, 5, 8), (6, 5, 8)],
            4 * 30 * 8 * 6 + 2 * 6 * 5 * 5 * (3 + 3),
        ),
        (
            layers.GroupQueryAttention(3, num_query_heads=4, num_key_value_heads=2),
            [(6, 8), (5, 8)],
            6 * 8 * 12 + 2 * 5 * 8 * 6 + 6 * 12 * 8 + 4 * 6 * 5 * 6,
        ),
        (layers.Embedding(1_000, 8), [(6,)], 0),
        (layers.BatchNormalization(), [(6,)], 0),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_the_multiply_adds_of_a_layer_are_those_computed_by_hand(layer, shapes, expected):
    built = network(layer, *shapes)
    assert cost.multiply_adds(built) == expected
    assert cost.uncounted(built) == []


def test_keys_of_attention_are_those_of_the_call_however_they_are_passed():
    query, value, key = keras.Input((6, 8)), keras.Input((5, 7)), keras.Input((5, 9))
    layer = layers.MultiHeadAttention(2, 3, value_dim=4)
    built = keras.Model([query, value, key], layer(query, value=value, key=key))
    expected = 6 * 8 * 6 + 5 * 9 * 6 + 5 * 7 * 8 + 6 * 8 * 8 + 2 * 6 * 5 * (3 + 4)
    assert cost.multiply_adds(built) == expected
    scores = layers.Attention()([query, keras.Input((5, 8), name="v")])
    assert cost.multiply_adds(keras.Model(scores._keras_history.operation.input, scores)) == 6 * 5 * (8 + 8)


def test_a_matrix_product_counts_the_pairs_and_what_is_summed():
    a, b = keras.Input((6, 8)), keras.Input((8, 5))
    assert cost.multiply_adds(keras.Model([a, b], keras.ops.matmul(a, b))) == 6 * 8 * 5


def test_a_layer_counts_as_often_as_it_is_applied_in_this_network():
    a, b, elsewhere = keras.Input((3,)), keras.Input((3,)), keras.Input((3,))
    dense = layers.Dense(4)
    twice = keras.Model([a, b], layers.Concatenate()([dense(a), dense(b)]))
    dense(elsewhere)  # belongs to another graph
    assert cost.multiply_adds(twice) == 2 * 3 * 4


def test_a_network_inside_another_counts_as_often_as_it_is_applied_with_the_shapes_it_gets():
    inner = keras.Sequential([keras.Input((None, 2)), layers.Conv1D(4, 3, padding="same"), layers.Dense(5)])
    short, long = keras.Input((10, 2)), keras.Input((20, 2))
    both = keras.Model([short, long], layers.Concatenate(axis=1)([inner(short), inner(long)]))
    assert cost.multiply_adds(both) == (10 + 20) * (3 * 2 * 4 + 4 * 5)
    assert cost.multiply_adds(inner) == 3 * 2 * 4 + 4 * 5  # a step, where the length is open
    assert cost.multiply_adds(keras.Model(short, keras.Model(short, inner(short))(short))) == 10 * 44


def test_inputs_by_name_keep_their_shapes_in_a_network_inside_another():
    inner_inputs = {name: keras.Input((size,), name=name) for name, size in (("b", 3), ("a", 7))}
    sums = layers.Add()([layers.Dense(4)(inner_inputs["a"]), layers.Dense(4)(inner_inputs["b"])])
    inner = keras.Model(inner_inputs, sums)
    outer_inputs = {name: keras.Input((size,), name=name) for name, size in (("b", 3), ("a", 7))}
    assert cost.multiply_adds(keras.Model(outer_inputs, inner(outer_inputs))) == (3 + 7) * 4


class Scaled(layers.Layer):
    """A layer of a kind of its own, with a kernel of a meaning of its own."""

    def build(self, shape):
        self.kernel = self.add_weight(shape=(shape[-1], shape[-1]))

    def call(self, inputs):
        return inputs


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.dense = layers.Dense(2)

    def call(self, inputs):
        return self.dense(inputs)


def test_layers_with_weights_of_an_unknown_kind_are_listed_and_contribute_nothing():
    given = keras.Input((3,))
    hidden = layers.LayerNormalization()(layers.Dropout(0.5)(layers.Dense(4)(given)))
    built = keras.Model(given, Scaled()(Subclassed()(Scaled()(hidden))))
    assert cost.uncounted(built) == ["Scaled", "Subclassed"]
    assert cost.multiply_adds(built) == 3 * 4
    assert cost.uncounted(Subclassed()) == ["Subclassed"]
