"""Compounds with three descriptors, in families; half of the second assay is missing."""

import numpy as np
import pandas as pd


def make(seed=0, families=300):
    rng = np.random.default_rng(seed)
    x = rng.normal(0, 1, (4 * families, 3))
    y = np.stack([x @ [2, -1, 0.5] - 4, x @ [0, 1, -1] - 1], axis=1) + rng.normal(0, 0.3, (len(x), 2))
    y[rng.random(y.shape) < [0.1, 0.5]] = np.nan
    columns = {"family": np.arange(families).repeat(4)} | {f"x{n}": x[:, n] for n in range(3)}
    return pd.DataFrame(columns | {"solubility": y[:, 0], "binding": y[:, 1]})
