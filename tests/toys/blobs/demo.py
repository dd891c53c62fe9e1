"""Two overlapping clouds of points, three points a subject."""

import numpy as np
import pandas as pd


def make(seed: int = 0, subjects: int = 1000) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    label = rng.integers(0, 2, subjects).repeat(3)
    points = rng.normal(label[:, None], 1.0, (len(label), 2))
    subject = np.arange(subjects).repeat(3)
    return pd.DataFrame({"subject": subject, "a": points[:, 0], "b": points[:, 1], "class": label})
