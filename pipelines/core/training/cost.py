"""What a network costs to run."""

from __future__ import annotations

import math
from typing import Any


def multiply_adds(network: Any) -> int:
    """Multiplications with a weight that one record costs, in the dense and the convolutional layers."""
    kernels = [(layer.output.shape, layer.kernel.shape) for layer in network.layers if hasattr(layer, "kernel")]
    return sum(math.prod(output[1:-1]) * math.prod(kernel) for output, kernel in kernels)
