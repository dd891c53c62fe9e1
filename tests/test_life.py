"""The life of a model, month after month: trained weakly, evaluated, replaced, kept, used, and brought back."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipelines.core.commands import evaluate, predict, versions
from pipelines.core.commands.train import train as train_pipeline
from pipelines.core.contract import Pipeline, Settings, discover
from pipelines.core.review import promotion
from pipelines.core.store import champions, registry
from pipelines.fraud import demo
from pipelines.stocks.features import TARGETS as STOCK_TARGETS

ROOT = Path(__file__).parents[1]
QUICK = {
    "fraud": {"epochs": 4},
    "medical_images": {},
    "speech_commands": {"epochs": 8, "stream_minutes": 0},
    "stocks": {"epochs": 10},
}
"""Settings with which a network of the demo data is trained in a minute or so, and is better than a weak one."""
WEAK = 0.02
"""Share of the training records that a weak network learns from."""


@pytest.fixture
def train(monkeypatch):
    """Trains on a share of the training records, the latest where they have a time; with labels shuffled if spoilt."""

    def run_it(pipeline: Pipeline, settings: Settings, share: float = 1.0, spoilt: bool = False) -> None:
        whole = pipeline.data.split

        def split(data, settings):
            splits, rng = whole(data, settings), np.random.default_rng(0)
            rows = splits.train if "time" in data else rng.permutation(splits.train)
            rows = np.sort(rows[-max(round(share * len(rows)), FEWEST.get(pipeline.name, 0)) :])
            if spoilt:
                targets = TARGETS.get(pipeline.name, ["label"])
                shuffled = data.records.loc[rng.permutation(rows), targets].to_numpy()
                data.records.loc[rows, targets] = shuffled
            return replace(splits, train=rows)

        with monkeypatch.context() as patch:
            patch.setattr(pipeline.data, "split", split)
            train_pipeline(pipeline, settings)

    return run_it


TARGETS = {"stocks": STOCK_TARGETS}
"""Columns of the records that the network is fitted to, where these are others than `label`."""
FEWEST = {"stocks": 1_000, "medical_images": 64, "speech_commands": 100}
"""Training records without which a pipeline cannot learn at all: a year of days, some of every class."""


@pytest.fixture
def settings(request, store, tmp_path) -> Settings:
    """Those of the pipeline's demo data; of fraud's, the payments of some customers as a file of the user's own."""
    pipeline = discover()[request.getfixturevalue("name")]
    own = {}
    if pipeline.name == "fraud":
        payments = demo.make(0)
        some = payments["customer"].isin([f"C{number:04d}" for number in range(400)])
        payments[some].to_csv(tmp_path / "payments.csv", index=False)
        own = {"data": "payments.csv"}
    return pipeline.settings(**QUICK[pipeline.name], **own)


def decision(name: str) -> tuple[str, str]:
    """The verdict on the latest version in a word, and the number of the champion."""
    latest, champion = registry.versions(name)[0], champions.current(name)
    return latest.tags.get("verdict", latest.tags["decision"]), champion.number if champion else 0


@pytest.mark.slow
@pytest.mark.parametrize("name", QUICK)
def test_from_a_weak_champion_to_a_rollback(name, settings, train, store, tmp_path, capsys, monkeypatch):
    # Gates and baselines have tests of their own: here versions are compared with one another.
    monkeypatch.setattr(promotion, "better_baseline", lambda outcome: None)
    pipeline = replace(discover()[name], gates=())
    model = name if name == "fraud" else f"{name}-demo"

    train(pipeline, settings, WEAK)
    assert decision(model) == ("champion", 1)
    evaluate.evaluate(pipeline, data=settings.data)
    assert "scored without training" in capsys.readouterr().out

    train(pipeline, settings)
    assert decision(model) == ("better", 2)
    train(pipeline, replace(settings, seed=1))
    assert decision(model) == ("equal", 2)
    train(pipeline, settings, share=0.1, spoilt=True)
    assert decision(model) == ("worse", 2)

    predict.predict(pipeline, data=settings.data, out="decisions.csv", version="2")
    decisions = pd.read_csv("decisions.csv")
    assert len(decisions)
    assert (decisions["version"] == 2).all()
    assert decisions["error"].isna().all()

    versions.promote(pipeline, name=model, rollback=True)
    assert champions.current(model).number == 1
    capsys.readouterr()
    versions.history(pipeline, name=model)
    told = capsys.readouterr().out
    assert all(word in told for word in ("rolled", "equal", "worse"))
