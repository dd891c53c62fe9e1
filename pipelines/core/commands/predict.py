"""`predict`: a version's decisions on new data, of any size, as a file.

A row of the file has `id`, what the domain's `TASK.decide` gives, `model`, `version` and `error`.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from rich.console import Console

from pipelines.core.contract import InputError, Pipeline
from pipelines.core.reading import downloads
from pipelines.core.serving.batch_scoring import WRITERS
from pipelines.core.store.model_names import check_name
from pipelines.core.training import device

if TYPE_CHECKING:
    from pipelines.core.reading.downloads import Origin
    from pipelines.core.store.registry import Version

WRITE = "pipelines.core.serving.batch_scoring:write"
"""What writes the decisions, with the code of the version."""
FEWEST = 100
"""Rows from which on scores are compared with those of test; with fewer, chance alone takes the index to 0.2."""


def predict(
    pipeline: Pipeline, *, data: str, out: str, history: str = "", version: str = "champion", name: str = ""
) -> None:
    """Write the decisions of a registered version on new data to a file, whole or not at all.

    Args:
        pipeline: whose version it is.
        data: What to score: a file, folder or archive of your own, the name of a public set, or demo.
        out: File to write, .csv or .parquet: a row for each record, with its id, the decision and its probability.
        history: File or folder of earlier records, such as past payments with their labels, where history counts.
        version: The version to score with: champion, or its number.
        name: Registered model; by default the one that training on these data makes, or the pipeline's only one.

    Raises:
        InputError: for data that do not fit what the version was trained on, or none of which can be scored.
    """
    check_name(name)
    place, history = Path(out).expanduser(), history and str(Path(history).expanduser())
    origin = downloads.resolve(data, pipeline, Path.cwd())
    _refuse_unfit(place, origin, history)
    with device.quiet():
        from pipelines.core.store import isolation, registry, tracking

        tracking.connect()
        model = registry.find_version(pipeline, version, name, origin)
        same_code = model.same_code(pipeline)

    with tempfile.TemporaryDirectory(dir=place.parent, prefix=f".{place.name}-") as scratch:
        draft = Path(scratch, f"draft{place.suffix.lower()}")
        asked = {"data": origin.name, "path": str(origin.path or ""), "history": history, "out": str(draft)}
        about = {"name": model.name, "number": model.number}
        found = isolation.run_in_version(model.uri, same_code, WRITE, **asked, **about)
        draft.replace(place)
    _log(pipeline, origin, model, found, {"out": str(place), "history": history})


def _refuse_unfit(out: Path, origin: Origin, history: str) -> None:
    if out.suffix.lower() not in WRITERS:
        raise InputError(f"--out: expected a file that ends in {' or '.join(WRITERS)}. Received: {out}.")
    if not out.parent.is_dir():
        raise InputError(f"--out: the folder {out.parent} does not exist. Received: {out}.")
    if history:
        downloads.existing(history)
    if out.exists() and any(read and out.samefile(read) for read in (origin.path, history)):
        raise InputError(f"--out: expected another file than those that are read. Received: {out}.")


# -------------------------------------------------------------------------------------------------------------- record


def _log(
    pipeline: Pipeline,
    origin: Origin,
    version: Version,
    found: Mapping[str, Any],
    files: Mapping[str, str],
) -> None:
    """Record the scoring as a separate run, which does not count as an evaluation, and print it."""
    from pipelines.core.evaluation import drift
    from pipelines.core.report import html
    from pipelines.core.review import compatibility
    from pipelines.core.store import tags, tracking

    scored, faults, seconds = found["scored"], found["faults"], found["seconds"]
    index = [drift.psi(np.array(column["counts"]), np.array(column["now"])) for column in found["scores"]]
    sentences = [
        f"{scored:,} rows of {origin.name} scored with version {version.number} of {version.name}"
        f" in {seconds:,.1f} s ({scored / seconds:,.0f} a second).",
        *([f"{faults:,} rows could not be scored; the column `error` says why."] if faults else []),
        *found["notes"],
        _moved(index, scored, compatibility.WARN),
    ]
    title = f"{origin.name} · predict · {scored:,} rows"
    with tracking.run(pipeline, title) as run_id:
        tracking.set_tags({tags.PIPELINE: pipeline.name, tags.DATA: origin.name, tags.ORIGIN: origin.kind})
        tracking.set_tags({"kind": "predict", "model": version.name, "version": str(version.number)})
        read = {"data_sha256": origin.path, "history_sha256": files["history"]}
        prints = {name: downloads.sha256(Path(path)) if path else "" for name, path in read.items()}
        tracking.log_params({"data": str(origin.path or origin.name), **files, **prints})
        tracking.log_dataset(origin.name, "predict", prints["data_sha256"], str(origin.path or "demo"))
        metrics = {"rows": scored + faults, "rows_scored": scored, "rows_with_errors": faults, "seconds": seconds}
        if index and scored >= FEWEST:
            metrics["score_drift"] = max(index)
        tracking.log_metrics({f"predict/{name}": value for name, value in metrics.items()})
        table = pd.DataFrame({"score": range(len(index)), "population stability index": index})
        tracking.log_item("score_drift", table)
        sections = [html.Section("Scores against those on test", [table])]
        tracking.log_text("report.html", html.render(title, "\n\n".join(sentences), sections if index else []))
        tracking.rename(run_id, title, "\n\n".join(sentences))
    console = Console()
    console.print("\n".join(sentences), soft_wrap=True, highlight=False, markup=False)
    console.print(
        f"Written to {files['out']}. {tracking.report_at(run_id)}", soft_wrap=True, highlight=False, markup=False
    )


def _moved(index: Sequence[float], rows: int, far: float) -> str:
    """How far the scores have moved since test, in a sentence."""
    if not index:
        return "How far scores have moved since test is not known: the version does not carry those of its test."
    if rows < FEWEST:
        return f"Too few rows to say how far scores have moved since test: {FEWEST} are needed."
    compared = f"Scores against those on test: population stability index {max(index):.3f}"
    if max(index) < far:
        return f"{compared}, below {far:g}."
    return (
        f"WARNING: {compared}; from {far:g} on they have moved far. The data may be of another kind or time than "
        "those of training, or their columns may mean something else: look before you act on the decisions."
    )
