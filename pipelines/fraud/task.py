"""Scores, measures, metrics, the alert threshold, and decisions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from pipelines.core.data.arrays import Part
from pipelines.core.data.identity import cell_hashes
from pipelines.core.evaluation import calibration
from pipelines.core.evaluation.metrics import Measures, Metric, OfWeights, average_precision, of_scores, roc_auc
from pipelines.core.evaluation.promises import Promise, promised, share
from pipelines.core.tasks.classification import Classification
from pipelines.core.tasks.task import Outputs
from pipelines.fraud import Settings
from pipelines.fraud.data import CLASSES, Facts
from pipelines.fraud.history import Latest

if TYPE_CHECKING:
    from pipelines.core.training.trial import Outcome

CARDS = 100  # cards looked into each day by the Handbook's card precision
CARD_PRECISION = f"card_precision_at_{CARDS}"
NO_CARD = cell_hashes(pd.Series([np.nan]))[0]
"""The measure `card` of a payment without one."""
ALERTS = 0.01  # share of payments that are alerts where no budget is given
BUDGET_TOLERANCE = 0.25  # by which a day's alerts may exceed the budget: the number of payments varies as much


class FraudTask(Classification):
    """Two classes, fraud the second; a card is a value of the first entity."""

    def classes(self, facts: Facts) -> Sequence[str]:
        return CLASSES

    def measures(self, scores: np.ndarray, part: Part) -> dict[str, np.ndarray]:
        """The measures `label` and `score`, and where payments have a history `day` and `card`.

        `day`, int64, counts days since 1970; `card`, uint64, is a hash of the customer or card, NO_CARD where missing.
        """
        found = super().measures(scores, part)
        if entities := part.data.about.roles.tracked:
            frame = part.frame
            found["day"] = frame["time"].to_numpy().astype("datetime64[D]").astype(np.int64)
            found["card"] = cell_hashes(frame[entities[0]])
        return found

    def metrics(self, facts: Facts) -> Mapping[str, Metric]:
        """Average precision, area under the ROC curve and, where payments have a history, card precision."""
        found: dict[str, Metric] = {"average_precision": of_scores(average_precision), "roc_auc": of_scores(roc_auc)}
        return found | ({CARD_PRECISION: card_precision} if facts.roles.tracked else {})

    def thresholds(self, scores: np.ndarray, part: Part, settings: Settings, facts: Facts) -> Facts:
        """The facts with the threshold that keeps to the alert budget among these payments."""
        rate = ALERTS
        if settings.alerts_per_day:
            time = part.frame["time"]
            days = (time.max() - time.min()) / pd.Timedelta(days=1)
            rate = min(1.0, settings.alerts_per_day * days / part.weights.sum())
        return replace(facts, threshold=calibration.threshold_at_rate(scores, rate, part.weights))

    def promises(self, outcome: Outcome) -> Iterator[tuple[str, Promise]]:
        """Items of a report: that alerts keep to the budget, and that calibration helps."""
        part, settings = outcome.headline, outcome.settings
        alert, every = outcome.headline_scores >= outcome.facts.threshold, np.ones(len(part), bool)
        clusters, per_day = outcome.splits.clusters_of(part), settings.alerts_per_day
        name, wanted, scale = "share of payments that are alerts", ALERTS, 1.0
        if per_day:
            days = part.frame["time"].dt.normalize().nunique()
            name, wanted, scale = "alerts a day", per_day, part.weights.sum() / days
        yield from promised(
            name,
            wanted,
            share(alert, every, part.weights, clusters, scale),
            tolerance=BUDGET_TOLERANCE * wanted,
            percent=not per_day,
            remedy="Lower --alerts-per-day: the latest payments score higher than those that set the threshold.",
        )
        yield from super().promises(outcome)

    def decide(self, outputs: Outputs, facts: Facts, part: Part) -> pd.DataFrame:
        """What a user gets for each payment of the part.

        Columns: `probability` of fraud; `alert`, whether it is one of the payments to look into; and, where payments
        have a history, `earlier_payments` of the same customer among the given records: 0 was judged without history.
        """
        probability = self.scores(outputs, facts)
        decisions = pd.DataFrame({"probability": probability, "alert": probability >= facts.threshold})
        if entities := facts.roles.tracked:
            latest = part.inputs[entities[0]]
            assert isinstance(latest, Latest)
            decisions["earlier_payments"] = latest.earlier(part.rows)
        return decisions


def card_precision(measures: Measures, k: int = CARDS) -> OfWeights:
    """The share of cards with a fraud among the `k` cards of the highest scores, mean over days.

    A card counts by its highest score of the day; one that was rightly among the `k` is left out on later days (Fraud
    Detection Handbook, section 4.4). A day with fewer cards than `k` is judged by those that it has. A card's weight,
    that of the payment with its highest score, says how many cards it stands for. Of cards with equal scores the one
    that comes first among the payments ranks higher.

    Args:
        measures: `label` 0 or 1, `score`, `day` and `card`, each (n,); payments with NO_CARD are left out.
        k: cards a day.
    """
    present = np.flatnonzero(measures["card"] != NO_CARD)
    labels, scores = measures["label"][present], measures["score"][present]
    days = np.unique(measures["day"][present], return_inverse=True)[1]
    cards, different = pd.factorize(measures["card"][present])
    order = np.lexsort((-scores, cards, days))
    day, card = days[order], cards[order]
    first = np.flatnonzero(np.diff(day, prepend=-1) | np.diff(card, prepend=-1))
    best, frauds = order[first], np.maximum.reduceat(labels[order], first) == 1
    ranked = np.lexsort((-scores[best], days[best]))
    best, frauds = best[ranked], frauds[ranked]
    payments, best_cards = present[best], cards[best]
    ends = np.flatnonzero(np.diff(days[best], append=-1)) + 1

    def value(weights: np.ndarray) -> float:
        shares, caught = [], np.zeros(len(different), bool)
        for begin, end in pairwise([0, *ends]):
            # The first few hundred nearly always hold `k` cards by weight; all of them always do, if there are so many.
            for stop in (min(begin + 5 * k, end), end):
                at = np.arange(begin, stop)[~caught[best_cards[begin:stop]]]
                weight = weights[payments[at]]
                total = weight.cumsum()
                if len(total) and total[-1] >= k:
                    break
            chosen = np.clip(k - (total - weight), 0, weight)
            if chosen.sum() > 0:
                shares.append(chosen @ frauds[at] / chosen.sum())
            caught[best_cards[at[(chosen > 0) & frauds[at]]]] = True
        return float(np.mean(shares)) if shares else np.nan

    return value


TASK = FraudTask()
