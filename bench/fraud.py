"""The Fraud Detection Handbook's protocol on its simulated payments: `make bench-fraud DATA=transactions.parquet`.

Each fold has 7 days of training, 7 days until their labels are known, and 7 days of test; customers whose fraud is
known by then are left out of the test, day by day. Training sees the payments of the 7 days alone, or with `--training
all` those of all days since May 6th; in both, earlier payments and labels known by then feed the inputs. Settings were
chosen on the folds of `--folds validation`; the test folds are for the final figures.

Expected on the test folds: see the model card. Two cores take 8 minutes for 7 days, 37 for all.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import tyro

from pipelines.core.contract import InputError
from pipelines.core.data.dataset import Dataset
from pipelines.core.data.splits import Splits
from pipelines.core.training import device
from pipelines.core.training.trial import Outcome, trial
from pipelines.fraud import PIPELINE, Settings
from pipelines.fraud.reading import DAY, About

FOLDS = {
    "validation": ("2018-06-20", "2018-06-27", "2018-07-04", "2018-07-11"),
    "test": ("2018-07-25", "2018-08-01", "2018-08-08", "2018-08-15"),
}
EPOCHS = {"week": 10, "all": 3}
"""Chosen on the validation folds; a network without a validation side trains all its epochs."""
FIRST = pd.Timestamp("2018-05-06")
"""First day of `--training all`: by then a month of history and labels feeds the inputs."""
PUBLISHED = pd.DataFrame(
    {
        "logistic regression": (0.868, 0.623, 0.297),
        "random forest": (0.870, 0.678, 0.299),
        "XGBoost": (0.869, 0.687, 0.303),
        "feed-forward network": (0.876, 0.675, 0.303),
        "CNN": (0.872, 0.599, 0.288),
        "LSTM": (0.876, 0.665, 0.297),
        "LSTM with attention": (0.874, 0.667, 0.295),
        "balanced bagging": (0.879, 0.680, 0.305),
    },
    index=["roc_auc", "average_precision", "card_precision_at_100"],
).T
"""The Handbook's own results on the four test folds, each ± .01 to .02 (Le Borgne, Siblini, Lebichot and Bontempi 2022,
chapters 5 to 7). They train on the 7 days and read 15 features, or the customer's history but not the terminal's."""


@dataclass(frozen=True)
class Options(Settings):
    """The settings of the fraud pipeline, and what to run."""

    epochs: int = 0
    """Passes over the training rows; 0 stands for 10 over a week, and 3 over all days."""
    folds: Literal["validation", "test"] = "test"
    """Which four folds; settings are chosen on validation only."""
    training: Literal["week", "all"] = "week"
    """Payments to train on: those of the fold's 7 days, or all since May 6th."""
    seeds: int = 3
    """Networks to train on each fold."""


def fold(data: Dataset[About], start: pd.Timestamp, training: str) -> Splits:
    """The fold whose training week begins at `start`; it has no validation side, since every choice is made before.

    On test day k every customer is left out who has a fraud in the training week or between its last day and day
    `start + 6 + k`, the last day whose labels are known on the morning of that test day.
    """
    records = data.records
    days = (records["time"] - start) // DAY
    customers = records[data.about.roles.entities[0]]
    of_frauds, when = customers[records["label"] == 1], days[records["label"] == 1]
    test, left_out = [], 0
    for k in range(7):
        rows = np.flatnonzero(days == 14 + k)
        kept = rows[~customers.iloc[rows].isin(of_frauds[when.between(0, 6 + k)]).to_numpy()]
        test.append(kept)
        left_out += len(rows) - len(kept)
    first = FIRST if training == "all" else start
    train = np.flatnonzero((records["time"] >= first) & (days < 7))
    reasons = {"payments of customers whose fraud is known": left_out}
    return Splits(train, np.empty(0, np.int64), np.concatenate(test), "Fraud Detection Handbook", reasons)


def outcomes(data: Dataset[About], options: Options) -> Iterator[tuple[str, int, Outcome]]:
    """One trial for each fold and seed, as (start of the fold, seed, outcome)."""
    facts = PIPELINE.data.learn(data, options)  # alike in every fold
    encoded = PIPELINE.data.encode(data, facts).materialised()
    for start in FOLDS[options.folds]:
        splits = fold(data, pd.Timestamp(start), options.training)
        for seed in range(options.seeds):
            settings = replace(options, seed=seed, epochs=options.epochs or EPOCHS[options.training])
            machine = device.setup(seed, options.device, options.precision, options.gpus)
            yield start, seed, trial(PIPELINE, data, splits, settings, machine, encoded=encoded, resamplings=0)


def main(options: Options) -> None:
    """Print each trial's figures, then their means, and how far seeds spread.

    Raises:
        InputError: if the data are not the Handbook's payments.
    """
    data = PIPELINE.data.read(Path(options.data), options)
    begin, end = data.records["time"].min(), data.records["time"].max()
    last = pd.Timestamp(FOLDS[options.folds][-1]) + 20 * DAY
    if not begin < FIRST < last < end:
        raise InputError(
            f"{options.data}: expected the Handbook's payments, from {FIRST:%Y-%m-%d} or before to {last:%Y-%m-%d} or "
            f"later. Received: {begin:%Y-%m-%d} to {end:%Y-%m-%d}."
        )
    found = []
    for start, seed, outcome in outcomes(data, options):
        figures = dict(outcome.resampled.values)
        part = outcome.headline
        perfect = PIPELINE.task.measures(part.labels.astype(np.float64), part)
        for name, metric in PIPELINE.task.metrics(outcome.facts).items():
            figures["a perfect ranking", name] = metric(perfect)(part.weights)
        table = pd.Series(figures).unstack()
        print(f"fold {start}, seed {seed}: {outcome.fitted.examples_per_second:,.0f} payments/s")
        print(table.round(4).to_string(), flush=True)
        found.append(table.assign(seed=seed))
    # The folds' mean is the figure; how far it moves with the seed of the network is its spread.
    by_seed = pd.concat(found).rename_axis("model").groupby(["model", "seed"]).mean()
    print(f"\nMean of the four {options.folds} folds and {options.seeds} seeds, training on: {options.training}")
    print(by_seed.groupby("model").mean().round(4).to_string())
    print("\nStandard deviation of the folds' mean over seeds")
    print(by_seed.groupby("model").std().round(4).to_string())
    print("\nPublished in the Handbook, training on 7 days, with other inputs")
    print(PUBLISHED[list(by_seed)].to_string())


if __name__ == "__main__":
    try:
        main(tyro.cli(Options, description=__doc__))
    except InputError as error:
        sys.exit(f"error: {error}")
