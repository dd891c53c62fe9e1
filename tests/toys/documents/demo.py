"""Word counts of documents by several authors, with three tags, each of which a word betrays now and then."""

import numpy as np
import pandas as pd

TAGS = ("sport", "law", "food")


def make(seed=0, authors=200):
    rng = np.random.default_rng(seed)
    tags = rng.random((5 * authors, 3)) < 0.3
    words = rng.poisson(1 + 2 * tags @ np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 1]]))
    columns = {"author": np.arange(authors).repeat(5)} | {f"word{n}": words[:, n] for n in range(4)}
    return pd.DataFrame(columns | {name: tags[:, n].astype(int) for n, name in enumerate(TAGS)})
