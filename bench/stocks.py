"""Forecasts of volatility on daily prices, every model, horizon and test: `make bench-stocks DATA=…`.

The published protocol on thirty Dow Jones tickers (`DATA=djia_2006_2017 ARGS="--test-start 2014-01-01"`): QLIKE pooled
over ticker-days as a ratio to HAR's; Diebold-Mariano tests over the panel's days; the model confidence set; the same
without the forecasts whose target contains 24 August 2015, a day that alone makes most of some models' lead.
`--check` judges on the last two years before the test period instead: there settings are chosen.

Expected figures and times: see the model card.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import tyro
from arch.bootstrap import MCS

from pipelines.core.contract import InputError
from pipelines.core.data import leakage
from pipelines.core.data.dataset import Dataset
from pipelines.core.reading import downloads
from pipelines.core.tasks.forecasting import Panel
from pipelines.core.training import device
from pipelines.core.training.trial import Outcome, trial
from pipelines.stocks import PIPELINE, Settings, report, returns
from pipelines.stocks.features import HORIZONS

CRASH = pd.Timestamp("2015-08-24")
SIZE = 0.1
"""Of the model confidence set, which has the best model with a probability of 1 - SIZE (Hansen et al. 2011)."""
YEARS = 2


@dataclass(frozen=True)
class Options(Settings):
    """The settings of the stocks pipeline, and what to run."""

    seeds: int = 3
    """Networks to train."""
    check: bool = False
    """Whether to judge on the years before the test period, which then is not read."""


def before(data: Dataset, options: Options) -> tuple[Dataset, Options]:
    """The records before the test period, and options that make their last YEARS the test period."""
    first = data.records["time"].iloc[PIPELINE.data.split(data, options).test].min()
    records = data.records[data.records["time"] < first].reset_index(drop=True)
    known = records["known_at"] < first  # no target reaches into the test period
    records = records.assign(labelled=records["labelled"] & known, label=records["label"].where(known))
    return replace(data, records=records), replace(options, test_start=f"{first - pd.DateOffset(years=YEARS):%Y-%m-%d}")


def without(records: pd.DataFrame, rows: np.ndarray, day: pd.Timestamp, horizon: int) -> np.ndarray:
    """Which rows' targets over the horizon do not contain the day, bool (rows,)."""
    days = np.unique(records["time"])
    ahead = np.searchsorted(days, np.datetime64(day)) - np.searchsorted(days, records["time"].iloc[rows])
    return (ahead < 1) | (ahead > horizon)


def ratios(panel: Panel, keep: np.ndarray | None = None) -> dict[str, np.ndarray]:
    """QLIKE of each model over HAR's, pooled over ticker-days, (3,); of the rows to `keep`, bool (rows, 3)."""
    keep = np.ones(panel.losses["har"].shape, bool) if keep is None else keep
    total = {name: (values * keep).sum(axis=0) for name, values in panel.losses.items()}
    return {name: values / total["har"] for name, values in total.items()}


def tests(panel: Panel, place: int) -> Iterator[dict]:
    """Diebold-Mariano of the network against every other model, and the models in the confidence set."""
    daily = pd.DataFrame({name: panel.over_time(values[:, place]) for name, values in panel.losses.items()})
    confidence = MCS(daily, SIZE, reps=1000, block_size=21, method="max", seed=0)
    confidence.compute()
    for name in daily:
        tested = panel.test("network", name, place) if name != "network" else None
        yield {
            "horizon": HORIZONS[place],
            "model": name,
            "QLIKE": daily[name].mean(),
            "DM, network less it": tested.statistic if tested else np.nan,
            "p, network better": tested.p if tested else np.nan,
            "MCS p": confidence.pvalues.loc[name, "Pvalue"],
            "in the set": name in confidence.included,
        }


def main(options: Options) -> None:
    """Print ratios of each seed, tests of the first, and the scores of its return forecasts."""
    origin = downloads.resolve(options.data, PIPELINE, Path.cwd())
    data = PIPELINE.data.read(origin.path, options)
    print(PIPELINE.data.describe(data))
    if options.check:
        data, options = before(data, options)
    splits = leakage.refuse_leaks(data, PIPELINE.data.split(data, options))
    print(f"Split {splits.rule}: {', '.join(f'{len(rows):,} {side}' for side, rows in splits.sides().items())}")
    everything, calm, first = {}, {}, None
    names = [f"{h}d" for h in HORIZONS]
    for seed in range(options.seeds):
        machine = device.setup(seed, options.device, options.precision, options.gpus)
        outcome = trial(PIPELINE, data, splits, replace(options, seed=seed), machine, resamplings=0)
        panel = report.losses(outcome)
        rows = outcome.parts["test"].rows
        keep = np.stack([without(data.records, rows, CRASH, h) for h in HORIZONS], axis=1)
        for table, of_models in ((everything, ratios(panel)), (calm, ratios(panel, keep))):
            table["network", seed] = of_models.pop("network")
            if first is None:
                table.update({(name, 0): values for name, values in of_models.items()})
        ratio, cost = everything["network", seed].round(3), outcome.cost
        print(f"seed {seed}: {ratio}, epoch {outcome.fitted.kept_epoch}, {sum(cost.values()):.0f} s", flush=True)
        first = first or outcome
    summary(first, pd.DataFrame(everything, index=names).T, pd.DataFrame(calm, index=names).T)


def summary(first: Outcome, everything: pd.DataFrame, calm: pd.DataFrame) -> None:
    """Print the tables: ratios by model and seed, on all days and without CRASH, and results of the first trial."""
    panel = report.losses(first)
    har = pd.Series(panel.losses["har"].mean(axis=0), index=everything.columns)
    print("\nQLIKE of HAR: " + "  ".join(f"{h} {value:.3f}" for h, value in har.items()))
    for title, table in (("all days", everything), (f"without targets that contain {CRASH:%Y-%m-%d}", calm)):
        means = table.groupby(level=0, sort=False).mean()
        means.loc["network, deviation of seeds"] = table.loc["network"].std()
        print(f"\nQLIKE as a ratio to HAR's, {title}\n" + means.round(3).to_string())
    every = pd.DataFrame([row for place in range(len(HORIZONS)) for row in tests(panel, place)])
    print(f"\nTests, first seed; model confidence set at {1 - SIZE:.0%}\n" + every.round(4).to_string(index=False))
    print("\nCalm and stormy days\n" + report.against(first, panel).round(4).to_string(index=False))
    print(
        "\nForecasts of returns\n"
        + returns.scores(first, returns.quantile_forecasts(first)).round(4).to_string(index=False)
    )
    print("\nDirection\n" + returns.direction(first).to_string(index=False))


if __name__ == "__main__":
    try:
        main(tyro.cli(Options, description=__doc__))
    except InputError as error:
        sys.exit(f"error: {error}")
