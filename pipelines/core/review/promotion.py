"""Promotion: the one place that decides what becomes of a trained network, and says it in one sentence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pipelines.core.evaluation.promises import Promise, broken
from pipelines.core.review.comparison import Comparison, compare
from pipelines.core.review.gates import BETTER, GateResult, best_baseline, better_baseline, deficit, gates, position
from pipelines.core.store import registry
from pipelines.core.training.trial import NETWORK, Outcome

FEWEST = 50
"""Test rows, below which a nearly perfect result can be chance."""

Kind = Literal["refused", "challenger", "champion"]


@dataclass(frozen=True)
class Decision:
    """What becomes of a version.

    Attributes:
        kind: whether it was refused, is kept as a challenger, or is the champion.
        reason: which model to use and why, in one sentence: on the page, in the terminal, in the run and in its tag.
        gates: of the pipeline, as judged.
        comparison: with the champion, if there was one.
        better_baseline: name of the baseline to use instead, "" if none is measurably better.
        promises: as they are on test.
    """

    kind: Kind
    reason: str
    gates: Sequence[GateResult]
    comparison: Comparison | None = None
    better_baseline: str = ""
    promises: Sequence[Promise] = ()

    @property
    def warning(self) -> str:
        """The promises that are broken, in a sentence; "" if none is."""
        found = broken(self.promises)
        remedies = " ".join(dict.fromkeys(promise.remedy for promise in found if promise.remedy))
        return f"Not kept on test: {'; '.join(map(str, found))}. {remedies}".strip() if found else ""


def decide(
    outcome: Outcome,
    version: registry.Version,
    champion: registry.Version | None,
    looks: int = 0,
    promises: Sequence[Promise] = (),
    evidence: Sequence[str] = (),
) -> Decision:
    """Decide about a version by its gates, its baselines and the current champion, in this order.

    - Refused: it fails a gate, or a model is better than the field would believe, which points to a leak.
    - Challenger: a baseline is measurably better, a gate is undecided, or it is not measurably better than the
      champion, from which it may differ by the seed alone.
    - Champion: else.

    Args:
        outcome: of the training.
        version: the registered network.
        champion: the current champion, or None.
        looks: earlier evaluations on this test set.
        promises: as measured on test.
        evidence: inputs that carry a result too good to be true, from the strongest on.
    """
    results = gates(outcome, looks)
    comparison = compare(outcome, version, champion, looks) if champion else None
    better = better_baseline(outcome)
    failed, undecided = ([r.reason for r in results if r.state == state] for state in ("failed", "undecided"))
    kind: Kind = "refused" if failed else "challenger"
    if model := implausible(outcome):
        kind, reason = "refused", _look_for_a_leak(outcome, model, evidence)
    elif better:
        reason = _use_instead(outcome, *better)
    elif failed:
        nothing = any(result.gate.shown and result.state == "failed" for result in results)
        reason = f"{'Nothing was learnt' if nothing else 'Not good enough'}: {'; '.join(failed)}."
    elif undecided:
        reason = f"Not promoted: {'; '.join(undecided)}."
    elif comparison is None:
        kind, reason = "champion", _first(outcome)
    else:
        kind, reason = "champion" if comparison.verdict == "better" else "challenger", str(comparison)
    return Decision(kind, reason, results, comparison, better[0] if better else "", promises)


def implausible(outcome: Outcome) -> str:
    """The model with the best headline figure, if that is better than the field would believe, else ""."""
    headline = outcome.pipeline.headline
    if headline.implausible is None or len(outcome.headline) < FEWEST:
        return ""
    sign = 1 if headline.higher else -1
    values = {name: sign * outcome.resampled.values[name, headline.name] for name in outcome.models}
    best = max(values, key=lambda name: values[name])
    return best if values[best] >= sign * headline.implausible else ""


def _look_for_a_leak(outcome: Outcome, model: str, evidence: Sequence[str]) -> str:
    headline = outcome.pipeline.headline
    value = outcome.resampled.interval(model, headline.name)
    who = "the network" if model == NETWORK else model.replace("_", " ")
    carried = f"; the network depends most on {', '.join(evidence)}" if evidence else ""
    return (
        f"Nearly perfect: look for a leak before you use any of these models, since {headline.words} of {who} is "
        f"{value}{carried}."
    )


def _use_instead(outcome: Outcome, best: str, behind: object) -> str:
    headline = outcome.pipeline.headline
    own, other = (outcome.resampled.interval(model, headline.name).rounded()[0] for model in (NETWORK, best))
    way = "higher" if headline.higher else "lower"
    return (
        f"Use {best.replace('_', ' ')} instead of the network: its {headline.words} is {way} by {behind} ({other} "
        f"against {own}; {way} is better)."
    )


def _first(outcome: Outcome) -> str:
    best = best_baseline(outcome)
    behind = deficit(outcome, best, BETTER)
    where = position(f"the best baseline, {best.replace('_', ' ')},", behind)
    chance = "" if behind.high < 0 else ", which could be chance"
    return (
        f"Use the network: all checks passed, and it is {where}{chance}. This is the first model, so it is now in use."
    )
