"""Comparison of a new version with the champion, on the same rows, which neither has learnt from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

from pipelines.core.contract import InputError
from pipelines.core.evaluation.bootstrap import Interval, bootstrap
from pipelines.core.store import isolation, manifest, registry
from pipelines.core.training.trial import NETWORK, Outcome

FEWEST_ROWS = 200
"""Test rows that neither version was trained on, below which two versions are not compared."""
RESAMPLINGS, MOST_RESAMPLINGS = 500, 10_000
"""Resamplings of a comparison at 95 %, and at most: a stricter level needs more, to have as many beyond its ends."""
DIGESTS = ("data_sha256", "code_sha256", "settings_sha256")
"""What a version was made from, its seed and its ancestors aside."""

Verdict = Literal["better", "equal", "worse", "not comparable"]


@dataclass(frozen=True)
class Comparison:
    """The new version minus the champion, paired on the same rows; or why the two cannot be compared.

    `looks` counts the earlier runs that were judged on the same test set, for which `difference` has a stricter level.
    """

    champion: registry.Version
    looks: int = 0
    rows: int = 0
    left_out: int = 0
    difference: Interval | None = None
    own: Interval | None = None
    other: Interval | None = None
    why_not: str = ""
    twin: bool = False

    @property
    def verdict(self) -> Verdict:
        if self.twin:
            return "equal"
        if self.difference is None:
            return "not comparable"
        if self.difference.low > 0:
            return "better"
        return "worse" if self.difference.high < 0 else "equal"

    def __str__(self) -> str:
        """What to do and why, in a sentence."""
        name = f"version {self.champion.number}"
        if self.verdict == "not comparable":
            return f"Keep {name}: the new version is not comparable with it, {self.why_not}."
        rows = f"{self.rows:,} test rows, {self.left_out:,} left out{self._level()}"
        if self.twin:
            detail = f", difference {self.difference} on {rows}" if self.difference else ""
            return f"Keep {name}: the same data, code and settings made it with another seed{detail}."
        if self.verdict == "equal":
            return f"Keep {name}: the new version is not measurably different, by {self.difference} on {rows}."
        if self.verdict == "better":
            return f"Use the new version: it is better than {name} by {self.difference} on {rows}."
        assert self.difference is not None
        return f"Keep {name}: the new version is worse by {self.difference.negated()} on {rows}."

    def _level(self) -> str:
        if not self.looks:
            return ""
        looks = "1 earlier evaluation" if self.looks == 1 else f"{self.looks} earlier evaluations"
        far = self.looks + 1 > MOST_RESAMPLINGS // RESAMPLINGS
        ends = f", with ends beyond what {MOST_RESAMPLINGS:,} resamplings support" if far else ""
        return f"; its level allows for {looks} on this test set (Bonferroni){ends}"

    def tags(self) -> dict[str, str]:
        """What the version and its run keep of it."""
        figures = {"figure": self.own, "champion_figure": self.other, "difference": self.difference}
        return {
            "verdict": self.verdict,
            "compared_with": str(self.champion.number),
            "champion_data_sha256": self.champion.digest("data_sha256"),
            "compared_rows": str(self.rows),
            "left_out_rows": str(self.left_out),
            "earlier_looks": str(self.looks),
            **{name: str(interval) for name, interval in figures.items() if interval},
        }


def compare(outcome: Outcome, version: registry.Version, champion: registry.Version, looks: int) -> Comparison:
    """Score the champion on today's headline test rows that neither it, nor `version`, nor an ancestor learnt from."""
    twin = version.tags.get("ancestors") == champion.tags.get("ancestors") and all(
        version.digest(name) == champion.digest(name) for name in DIGESTS
    )
    judged = Comparison(champion, looks, twin=twin)
    part, pipeline = outcome.headline, outcome.pipeline
    missing = manifest.missing_columns(part.data, champion)
    if missing:
        return replace(judged, why_not=f"it reads the column '{missing[0]}', which these records lack")
    try:
        own_rows = part.data.take(part.rows)
        unseen = ~(manifest.trained_on(champion, own_rows) | manifest.trained_on(version, own_rows))
        part = part.take(unseen)
        judged = replace(judged, rows=len(part), left_out=int((~unseen).sum()))
        if len(part) < FEWEST_ROWS:
            why = f"only {len(part)} of {len(unseen)} test rows are new to both, {FEWEST_ROWS} are needed"
            return replace(judged, why_not=why)
        other = isolation.score(champion.uri, champion.same_code(pipeline), part.data, part.rows)
        metric = pipeline.headline
        measures = other.measures if other.scores is None else pipeline.task.measures(other.scores, part)
        own = {name: values[outcome.counted][unseen] for name, values in outcome.models[NETWORK].measures.items()}
        metrics = {metric.name: pipeline.task.metrics(outcome.facts)[metric.name]}
        clusters = outcome.splits.clusters_of(part)
        count = min(RESAMPLINGS * (looks + 1), MOST_RESAMPLINGS)
        both = bootstrap(metrics, {"new": own, "champion": measures}, part.weights, clusters, count)
        return replace(
            judged,
            difference=stricter(partial(both.deficit, "champion", "new", metric.name, metric.higher), looks),
            own=both.interval("new", metric.name),
            other=both.interval("champion", metric.name),
        )
    except (InputError, RuntimeError) as error:
        return replace(judged, why_not=f"scoring it failed: {error}".rstrip("."))


def stricter(interval: Callable[..., Interval], looks: int) -> Interval:
    """The `interval(level=…)` that decides after so many earlier looks at the same rows.

    Bonferroni: the chance of a false promotion in all looks together stays at that of one interval at 95 %. Beyond
    the level that MOST_RESAMPLINGS can support, the interval is widened as a normal one would be.
    """
    supported = min(looks + 1, MOST_RESAMPLINGS // RESAMPLINGS)
    found = interval(level=1 - 0.05 / supported)
    return found if supported == looks + 1 else found.widened(1 - 0.05 / (looks + 1))
