"""The end of the line: record → promote; a training that MLflow does not accept is stored instead."""

from __future__ import annotations

import os

from pipelines.core.commands.pending import Trained, keep
from pipelines.core.contract import UnrecordedError
from pipelines.core.review import importance, promotion, record
from pipelines.core.store import champions, registry, tracking
from pipelines.core.store.looks import looks as count_looks
from pipelines.core.training.steps import step
from pipelines.core.training.trial import NETWORK


def conclude(trained: Trained, champion: registry.Version | None) -> None:
    """Record the training in its open run, register the network, and promote it if it beats `champion`.

    Where another version has become champion meanwhile, the decision is made again. May be called again for a run
    that was recorded in part.

    Raises:
        UnrecordedError: if MLflow fails; the training is then kept in a file, which `send` records.
    """
    try:
        _conclude(trained, champion)
    except tracking.FAULTS as error:
        pipeline, headline = trained.outcome.pipeline, trained.outcome.pipeline.headline.name
        uri, figure = os.environ["MLFLOW_TRACKING_URI"], trained.outcome.resampled.interval(NETWORK, headline)
        raise UnrecordedError(
            f"MLflow at {uri} did not take the record of this training ({tracking.error_summary(error)}). Its network"
            f" ({headline} {figure}) and all results are kept in {keep(trained)}. Once MLflow answers again,"
            f" `pipelines send {pipeline.name}` records it and decides about it."
        ) from None


def _conclude(trained: Trained, champion: registry.Version | None) -> None:
    outcome, origin, run_id = trained.outcome, trained.origin, trained.run_id
    trained.epochs.flush()
    with step("record", run_id):
        results = record.results(outcome, trained.drift)
        version = record.version(outcome, origin, trained.name, run_id)
    if champion is not None and champion.number == version.number:
        return  # an earlier attempt has promoted it already
    while True:
        with step("promote", f"version {version.number} of {version.name}") as shown:
            looks = count_looks(outcome.pipeline, run_id)
            evidence = importance.strongest(outcome) if promotion.implausible(outcome) else []
            decision = promotion.decide(outcome, version, champion, looks, results.promises, evidence)
            title = record.finish(outcome, decision, version, origin, looks, results, run_id, trained.drift)
            shown.text = f"version {version.number} of {version.name}: {decision.kind}"
            valid = champions.promote_if_unchanged(version, champion, decision.kind == "champion")
        if valid:
            record.announce(outcome, decision, version, title, tracking.report_at(run_id))
            return
        champion = champions.current(trained.name)
