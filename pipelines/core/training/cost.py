"""Multiply-adds of a network for one record, counted from its graph.

Dense, convolutional, attention and recurrent layers and matrix products are counted, which are nearly all of the work;
biases, activations, pooling and normalisation are not. A layer that is applied several times counts each time. A layer
of another kind that has weights contributes nothing, and `uncounted` lists it.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import keras
from keras import layers

Shape = tuple[int | None, ...]
Counts = Iterator[tuple[str, int | None]]
"""For each application of an operation its class name and its multiply-adds, None where these are not known."""


def multiply_adds(network: keras.Model) -> int:
    """Multiply-adds of the network for one record.

    Args:
        network: a functional or sequential model. A dimension that its inputs leave open counts as 1.
    """
    return sum(count or 0 for _, count in _applications(network))


def uncounted(network: keras.Model) -> list[str]:
    """Class names of the layers with weights whose work `multiply_adds` does not count, sorted, each once."""
    return sorted({name for name, count in _applications(network) if count is None})


# --------------------------------------------------------------------------------------------------------- the graph


def _applications(network: keras.Model, inputs: Sequence[Any] = ()) -> Counts:
    """Every application of an operation in the network, on `inputs` or on a batch of one record as it declares them."""
    graph = getattr(network, "_functional", network)  # that of a sequential model
    if not hasattr(graph, "_run_through_graph"):  # a subclassed model has none
        yield type(network).__name__, None
        return
    found: list[tuple[str, int | None]] = []

    def counting(operation: Any) -> Callable[..., Any]:
        def apply(*args: Any, **kwargs: Any) -> Any:
            outputs = operation.compute_output_spec(*args, **kwargs)
            found.extend(_counts(operation, args, kwargs, outputs))
            return outputs

        return apply

    # Keras runs the graph on shapes alone: each application is seen with the shapes that it gets there, also in a
    # network inside another.
    batch = [keras.KerasTensor((1, *tensor.shape[1:]), tensor.dtype) for tensor in graph.inputs]
    graph._run_through_graph(inputs or batch, counting)
    yield from found


def _counts(operation: Any, args: Sequence[Any], kwargs: Mapping[str, Any], outputs: Any) -> Counts:
    """The operation's own count, or those of the layers inside it."""
    tensors = [value for value in keras.tree.flatten((args, kwargs)) if hasattr(value, "shape")]
    output = keras.tree.flatten(outputs)[0].shape
    if isinstance(operation, keras.Model):
        yield from _applications(operation, tensors)
    elif isinstance(operation, layers.Bidirectional):
        for layer in (operation.forward_layer, operation.backward_layer):
            yield from _counts(layer, tensors[:1], {}, outputs)
    elif isinstance(operation, layers.TimeDistributed):
        first, *others = tensors[0].shape[1:]
        one, step = (keras.KerasTensor((1, *shape)) for shape in (others, output[2:]))
        for name, count in _counts(operation.layer, [one], {}, step):
            yield name, count and count * (first or 1)
    elif isinstance(operation, layers.SpectralNormalization):
        yield from _counts(operation.layer, args, kwargs, outputs)
    else:
        yield type(operation).__name__, _count(operation, args, kwargs, [tensor.shape for tensor in tensors], output)


def _count(
    operation: Any, args: Sequence[Any], kwargs: Mapping[str, Any], shapes: Sequence[Shape], output: Shape
) -> int | None:
    """Multiply-adds of one application, of tensors of these shapes; None for weights of an unknown kind."""
    if isinstance(operation, (layers.MultiHeadAttention, layers.GroupQueryAttention)):
        given = inspect.signature(operation.call).bind(*args, **kwargs).arguments
        query, value = given["query"].shape, given["value"].shape
        key = value if given.get("key") is None else given["key"].shape
        return _multi_head_attention(operation, query, key, value)
    for kinds, count in _KINDS:
        if isinstance(operation, kinds):
            return count(operation, shapes, output)
    if type(operation).__name__ == "Matmul":  # `keras.ops.matmul` and @
        return _product(output) * (shapes[0][-1] or 1)
    return None if getattr(operation, "weights", ()) else 0


# --------------------------------------------------------------------------------------------------------- the layers


def _product(shape: Iterable[int | None]) -> int:
    return math.prod(size or 1 for size in shape)


def _weights(*kernels: Any) -> int:
    return sum(math.prod(kernel.shape) for kernel in kernels)


def _positions(layer: Any, shape: Shape) -> int:
    """Pixels or time steps of a tensor (batch, …) whose channels are where the layer expects them."""
    return _product(shape[2:] if layer.data_format == "channels_first" else shape[1:-1])


def _nothing(layer: Any, shapes: Sequence[Shape], output: Shape) -> int:
    return 0


def _dense(layer: Any, shapes: Sequence[Shape], output: Shape) -> int:
    return _product(shapes[0][1:-1]) * _weights(layer.kernel)


def _einsum_dense(layer: Any, shapes: Sequence[Shape], output: Shape) -> int:
    given, kernel = layer.equation.replace(" ", "").split("->")[0].split(",")
    before, ellipsis, after = given.partition("...")
    names = [*before, *["..."] * (len(shapes[0]) - len(before) - len(after)), *after] if ellipsis else list(given)
    free = (size for name, size in zip(names[1:], shapes[0][1:], strict=True) if name not in [*kernel])
    return _product(free) * _weights(layer.kernel)


def _convolution(layer: Any, shapes: Sequence[Shape], output: Shape) -> int:
    return _positions(layer, output) * _weights(layer.kernel)


def _separable(layer: Any, shapes: Sequence[Shape], output: Shape) -> int:
    return _positions(layer, output) * _weights(layer.depthwise_kernel, layer.pointwise_kernel)


def _transposed(layer: Any, shapes: Sequence[Shape], output: Shape) -> int:
    return _positions(layer, shapes[0]) * _weights(layer.kernel)  # each input position spreads over a whole kernel


def _recurrent(layer: Any, shapes: Sequence[Shape], output: Shape) -> int | None:
    cells = getattr(layer.cell, "cells", [layer.cell])
    if not all(hasattr(cell, "kernel") and hasattr(cell, "recurrent_kernel") for cell in cells):
        return None
    return (shapes[0][1] or 1) * sum(_weights(cell.kernel, cell.recurrent_kernel) for cell in cells)


def _recurrent_convolution(layer: Any, shapes: Sequence[Shape], output: Shape) -> int:
    frame = output[2:] if layer.return_sequences else output[1:]
    positions = _product(frame[1:] if layer.data_format == "channels_first" else frame[:-1])
    return (shapes[0][1] or 1) * positions * _weights(layer.cell.kernel, layer.cell.recurrent_kernel)


def _reversible_embedding(layer: Any, shapes: Sequence[Shape], output: Shape) -> int:
    looked_up = len(output) > len(shapes[0])
    return 0 if looked_up else _product(shapes[0][1:-1]) * _weights(layer.embeddings)


def _attention(layer: Any, shapes: Sequence[Shape], output: Shape) -> int:
    (query, value, *key) = shapes[:3]
    width = (key[0] if key else value)[-1]
    return _product(query[1:-1]) * (value[-2] or 1) * ((width or 1) + (value[-1] or 1))


def _multi_head_attention(layer: Any, query: Shape, key: Shape, value: Shape) -> int:
    """Projections of query, key, value and output, and two products for each pair of positions and each head."""
    grouped = isinstance(layer, layers.GroupQueryAttention)
    heads = layer.num_query_heads if grouped else layer.num_heads
    width = 2 * layer.head_dim if grouped else layer.key_dim + layer.value_dim
    axes = (1,) if grouped else layer.attention_axes
    gate = getattr(layer, "_gate_dense", None)
    by_query = [layer._query_dense.kernel, layer._output_dense.kernel, *([gate.kernel] if gate else [])]
    return (
        _product(query[1:-1]) * _weights(*by_query)
        + _product(key[1:-1]) * _weights(layer._key_dense.kernel)
        + _product(value[1:-1]) * _weights(layer._value_dense.kernel)
        + _product(query[1:-1]) * _product(value[axis] for axis in axes) * heads * width
    )


_ALL = ("1D", "2D", "3D")
_KINDS: tuple[tuple[Any, Callable[[Any, Sequence[Shape], Shape], int | None]], ...] = (
    (layers.Dense, _dense),
    (layers.EinsumDense, _einsum_dense),
    (tuple(getattr(layers, f"Conv{n}Transpose") for n in _ALL), _transposed),
    (tuple(getattr(layers, f"SeparableConv{n}") for n in _ALL[:2]), _separable),
    (tuple(getattr(layers, f"DepthwiseConv{n}") for n in _ALL[:2]), _convolution),
    (tuple(getattr(layers, f"Conv{n}") for n in _ALL), _convolution),
    (tuple(getattr(layers, f"ConvLSTM{n}") for n in _ALL), _recurrent_convolution),
    (layers.RNN, _recurrent),
    (layers.Attention, _attention),
    (layers.ReversibleEmbedding, _reversible_embedding),
    ((layers.Embedding, layers.PReLU), _nothing),
    ((layers.Normalization, layers.BatchNormalization, layers.LayerNormalization), _nothing),
    ((layers.GroupNormalization, layers.RMSNormalization), _nothing),
)
"""How the work of a layer is counted; the first class that fits decides, so that a subclass stands before its base."""
