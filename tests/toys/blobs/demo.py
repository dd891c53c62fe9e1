"""Two overlapping clouds, three points a subject."""

import numpy as np
import pandas as pd


def make(seed=0, subjects=1000):
    rng = np.random.default_rng(seed)
    label = rng.integers(0, 2, subjects).repeat(3)
    points = rng.normal(label[:, None], 1.0, (len(label), 2))
    return pd.DataFrame(
        {"subject": np.arange(subjects).repeat(3), "a": points[:, 0], "b": points[:, 1], "class": label}
    )
