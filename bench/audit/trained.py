"""Faults that show in a trained network alone: nothing learnt, too good to be true, promises broken."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from bench.audit import fraud, medical_images, speech_commands, stocks
from bench.audit.faults import Checked, Domain, Fault, prepared
from pipelines.core.contract import InputError, Pipeline
from pipelines.core.training import device

RESAMPLINGS = 300


def judge(pipeline: Pipeline, settings: Any) -> Checked:
    """Train a network and decide about it, as `train` does for a first version; what the verdict says are warnings.

    A decision that refuses the network refuses the data, in a sentence that begins with "refused".
    """
    with device.quiet():  # imported only here, so that the faults of data do not wait for MLflow
        from pipelines.core.evaluation.promises import Promise
        from pipelines.core.review import importance, promotion
        from pipelines.core.review.verdict import shift
        from pipelines.core.training.trial import trial
    try:
        data, splits, _ = prepared(pipeline, settings)
    except InputError as error:
        return Checked(refusal=str(error))
    machine = device.setup(settings.seed, settings.device, settings.precision, settings.gpus)
    outcome = trial(pipeline, data, splits, settings, machine, resamplings=RESAMPLINGS)
    promises = [item[1] for item in pipeline.report.report(outcome) if isinstance(item[1], Promise)]
    evidence = importance.strongest(outcome) if promotion.implausible(outcome) else []
    unregistered: Any = None  # a version is needed for the comparison with a champion alone
    decision = promotion.decide(outcome, unregistered, None, promises=promises, evidence=evidence)
    sentence = f"{decision.kind}: {decision.reason} {decision.warning}"
    remarks = (*pipeline.remarks(outcome), *filter(None, [shift(outcome)]))
    if decision.kind == "refused":
        return Checked(refusal=sentence, warnings=remarks)
    return Checked(warnings=(sentence, *remarks))


# ------------------------------------------------------------------------------------------------------------- plants


def _shuffled_payments(table: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    return table.assign(fraud=rng.permutation(table["fraud"]))


def _difference(table: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """Two columns that say little by themselves, and whose difference is the label."""
    before = rng.normal(0, 3, len(table))
    return table.assign(before=before.round(2), after=(before + 4 * table["fraud"]).round(2))


def _dearer_test(table: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """Prices rise fivefold when test begins."""
    test = table["time"] >= table["time"].min().normalize() + fraud.TESTED * fraud.DAY - 2 * fraud.DAY
    return table.assign(amount=table["amount"].where(~test, (table["amount"] * 5).round(2)))


def _relabelled(records: list[Any], column: str, share: float, rng: np.random.Generator, sides: set[str]) -> list[Any]:
    """Labels of this share of the records of some sides, drawn anew from all labels."""
    drawn = rng.permutation([getattr(record, column) for record in records])
    return [
        replace(record, **{column: str(label)}) if record.side in sides and rng.random() < share else record
        for record, label in zip(records, drawn, strict=True)
    ]


def _lit(image: medical_images.Image) -> medical_images.Image:
    """A bright square in the middle."""
    pixels = image.pixels.copy()
    pixels[13:19, 13:19] = 255
    return replace(image, pixels=pixels)


def _constant(prices: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    return stocks.simulated(rng, clustering=0.0)


EVERY = {"train", "val", "test"}
NOTHING, PERFECT, PROMISE = r"^refused", r"nearly perfect|look for a leak", r"not kept on test"
SHORT = {"epochs": 3}
PAYMENTS = {"epochs": 6, "batch_size": 64}
SPEECH = {"epochs": 4, "size": "tiny", "stream_minutes": 0}

FAULTS: tuple[tuple[Domain, Fault], ...] = (
    (fraud.DOMAIN, Fault("shuffled labels", "nothing can be learnt", "refused", NOTHING, _shuffled_payments, PAYMENTS)),
    (fraud.DOMAIN, Fault("two columns whose difference is the label", "neither is a leak by itself", "warned", PERFECT,
                         _difference, PAYMENTS)),
    (fraud.DOMAIN, Fault("prices rise when test begins", "alerts exceed the budget", "warned", PROMISE,
                         _dearer_test, PAYMENTS | {"alerts_per_day": 2})),
    (medical_images.DOMAIN, Fault("shuffled labels", "nothing can be learnt", "refused", NOTHING,
                                  lambda images, rng: _relabelled(images, "label", 1, rng, EVERY), SHORT)),
    (medical_images.DOMAIN, Fault("a bright square in one class", "no disease looks like it", "warned", PERFECT,
                                  lambda images, rng: [_lit(one) if one.label == "lesion" else one for one in images],
                                  SHORT)),
    (medical_images.DOMAIN, Fault("labels of test from another reader", "errors exceed what was promised", "warned",
                                  PROMISE, lambda images, rng: _relabelled([
                                      _lit(one) if one.label == "lesion" else one for one in images
                                  ], "label", 0.6, rng, {"test"}), {"epochs": 15})),
    (speech_commands.DOMAIN, Fault("shuffled labels", "nothing can be learnt", "refused", NOTHING,
                                   lambda clips, rng: _relabelled(clips, "word", 1, rng, EVERY), SPEECH)),
    (speech_commands.DOMAIN, Fault("labels of test from another listener", "errors exceed what was promised", "warned",
                                   PROMISE, lambda clips, rng: _relabelled(clips, "word", 0.4, rng, {"test"}),
                                   SPEECH | {"epochs": 12})),
    (stocks.DOMAIN, Fault("constant volatility", "nothing can be forecast", "refused", NOTHING, _constant, SHORT)),
)  # fmt: skip
