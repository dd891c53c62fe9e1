"""`predict`: a version's decisions on new data, of any size, as a file."""

from __future__ import annotations

import importlib
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn

from pipelines.core import bins, device, sources, tables
from pipelines.core.pipeline import InputError, Pipeline
from pipelines.core.rows import Request, no_faults, unlabelled

if TYPE_CHECKING:
    from mlflow.pyfunc import PyFuncModel

    from pipelines.core.registry import Version
    from pipelines.core.scorer import Scorer
    from pipelines.core.sources import Origin

WRITERS = {".csv": pyarrow.csv.CSVWriter, ".parquet": pyarrow.parquet.ParquetWriter}
FEWEST = 100
"""Rows from which on scores are compared with those of test; with fewer, chance alone takes the index to 0.2."""


def predict(
    pipeline: Pipeline, *, data: str, out: str, history: str = "", model: str = "champion", name: str = ""
) -> None:
    """Writes the decisions of a registered version on new data to a file, whole or not at all.

    Args:
        pipeline: whose version it is.
        data: What to score: a file, folder or archive of your own, the name of a public set, or demo.
        out: File to write, .csv or .parquet: a row for each record, with its id, the decision and its probability.
        history: File of what came before, such as past payments with their labels; where history counts.
        model: Version to score with: champion, or a number.
        name: Registered model; by default the pipeline's name, for demo and public data PIPELINE-DATA.

    Raises:
        InputError: for data that do not fit what the version was trained on, or none of which can be scored.
    """
    place, history = Path(out).expanduser(), history and str(Path(history).expanduser())
    origin = sources.resolve(data, pipeline, Path.cwd())
    _refuse_unfit(place, origin, history)
    with device.quiet():
        from pipelines.core import record, registry, scorer, tracking

        tracking.connect()
        registered = record.registered_name(pipeline, pipeline.settings(name=name), origin)
        version = registry.find(registered, model)
        same_code = version.tags.get("code_sha256") == tracking.code_sha256(pipeline)

    with tempfile.TemporaryDirectory(dir=place.parent, prefix=f".{place.name}-") as scratch:
        draft = Path(scratch, f"draft{place.suffix.lower()}")
        asked = {"data": origin.name, "path": str(origin.path or ""), "history": history, "out": str(draft)}
        about = {"name": version.name, "number": version.number}
        found = scorer.carried(version.uri, same_code, f"{__name__}:write", **asked, **about)
        draft.replace(place)
    _log(pipeline, origin, version, found, {"out": str(place), "history": history})


def _refuse_unfit(out: Path, origin: Origin, history: str) -> None:
    if out.suffix.lower() not in WRITERS:
        raise InputError(f"--out: expected a file that ends in {' or '.join(WRITERS)}. Received: {out}.")
    if not out.parent.is_dir():
        raise InputError(f"--out: expected a file in a folder that there is. Received: {out}.")
    if history and not Path(history).is_file():
        raise InputError(f"--history: expected a file that there is. Received: {history}.")
    if out.exists() and any(read and out.samefile(read) for read in (origin.path, history)):
        raise InputError(f"--out: expected another file than those that are read. Received: {out}.")


# ------------------------------------------------------------------------------------------------------------- scoring


def write(
    model: PyFuncModel, *, data: str, path: str, history: str, out: str, name: str, number: int
) -> dict[str, Any]:
    """Writes the decisions of the loaded version to `out`; it runs with the code that the version carries.

    Args:
        model: the loaded version.
        data: what the data are called; the name of a demo where there is no path.
        path: of the data, "" for a demo.
        history: path of past records, or "".
        out: file to write.
        name: of the registered model, which the file tells.
        number: of the version, which the file tells.

    Returns:
        `scored` and `faults` (rows), `seconds`, `notes` and, where the version knows its scores on test, `scores`: for
        each column the bins and `counts` of test, see `bins.binned`, and the counts of `now`.

    Raises:
        InputError: for data that do not fit, or none of which can be scored.
    """
    scorer: Scorer = model.unwrap_python_model()
    started = time.perf_counter()
    reference = scorer.facts.get("scores", [])
    counts = [np.zeros(len(column["counts"]), np.int64) for column in reference]
    scored, faults, notes, held = 0, 0, (), [no_faults()]
    with _progress() as progress, _writer(Path(out), {"model": name, "version": number}) as put:
        task = progress.add_task(f"Reading {data}", total=None)
        for request in requests(scorer, data, path, history):
            faults, notes = faults + len(request.faults), notes or request.notes
            held.append(request.faults)
            if not len(request.rows):
                continue  # the columns of the file are those of a row that is scored
            progress.update(task, description="Scoring", total=scored + faults + len(request.rows) + request.later)
            for decisions, outputs in scorer.answers(replace(request, faults=pd.concat(held))):
                put(decisions)
                scored += len(outputs)
                found = columns(scorer.report.scores(outputs, scorer.facts))
                for column, values, known in zip(counts, found, reference, strict=False):
                    column += bins.counts(values, known)
                progress.update(task, completed=scored + faults)
            held = [no_faults()]
        if not scored:
            told = pd.concat(held)["error"]
            raise InputError(f"None of the {faults:,} rows of {data} can be scored. {''.join(told[:1])}".strip())
        put(pd.concat(held))
    compared = [known | {"now": column.tolist()} for known, column in zip(reference, counts, strict=True)]
    seconds = time.perf_counter() - started
    return {"scored": scored, "faults": faults, "seconds": seconds, "notes": list(notes), "scores": compared}


def requests(scorer: Scorer, data: str, path: str, history: str) -> Iterator[Request]:
    """The data as requests: by the domain's own `requests`, or a table that is read whole."""
    settings = importlib.import_module(scorer.facts["module"]).PIPELINE.settings(data=data)
    read = [Path(place) if place else None for place in (path, history)]
    if history and not hasattr(scorer.data, "age"):
        raise InputError(f"--history: expected none, since these data have no history. Received: {history}.")
    if hasattr(scorer.data, "requests"):
        yield from scorer.data.requests(*read, scorer.facts, settings)
        return
    faults = no_faults()
    if read[0] is None:
        records = scorer.data.read(None, settings)
    else:
        table = tables.load(read[0])
        records, faults = tables.salvaged(
            lambda rows: scorer.data.parse(rows, scorer.facts), table, scorer.named(table)
        )
    rows, note = unlabelled(records["label"].to_numpy())
    yield Request(records, rows, faults, notes=(note,))


def _progress() -> Progress:
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    return Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True))


@contextmanager
def _writer(out: Path, constants: Mapping[str, Any]) -> Iterator[Callable[[pd.DataFrame], None]]:
    """A function that appends decisions, with columns of `constants`, to the file; the first set its columns."""
    with ExitStack() as stack:
        writer, schema = None, None

        def put(decisions: pd.DataFrame) -> None:
            nonlocal writer, schema
            if decisions.empty:
                return
            whole = decisions.assign(**constants, error=decisions["error"])
            if writer is None:
                whole = whole[[*(column for column in whole if column != "error"), "error"]]
                schema = pa.Schema.from_pandas(whole, preserve_index=False).remove_metadata()
                writer = stack.enter_context(WRITERS[out.suffix](out, schema))
            whole = whole.reindex(columns=schema.names)
            writer.write_table(pa.Table.from_pandas(whole, schema, preserve_index=False))

        yield put


# --------------------------------------------------------------------------------------------------------------- drift


def columns(scores: np.ndarray) -> list[pd.Series]:
    """Scores (n,) or (n, columns), column by column."""
    return [pd.Series(values) for values in np.atleast_2d(scores.T)]


# -------------------------------------------------------------------------------------------------------------- record


def _log(
    pipeline: Pipeline,
    origin: Origin,
    version: Version,
    found: Mapping[str, Any],
    files: Mapping[str, str],
) -> None:
    """Records what was scored as a run of its own, which is no look at a test set, and prints it."""
    from pipelines.core import drift, page, tracking

    scored, faults, seconds = found["scored"], found["faults"], found["seconds"]
    index = [bins.psi(np.array(column["counts"]), np.array(column["now"])) for column in found["scores"]]
    told = [
        f"{scored:,} rows of {origin.name} scored with version {version.number} of {version.name}"
        f" in {seconds:,.1f} s ({scored / seconds:,.0f} a second).",
        *([f"{faults:,} rows could not be scored; the column `error` says why."] if faults else []),
        *found["notes"],
        _moved(index, scored, drift.WARN),
    ]
    title = f"{origin.name} · predict · {scored:,} rows"
    with tracking.run(pipeline, title) as run_id:
        tracking.set_tags({"kind": "predict", "pipeline": pipeline.name, "data": origin.name, "origin": origin.kind})
        tracking.set_tags({"model": version.name, "version": str(version.number)})
        read = {"data_sha256": origin.path, "history_sha256": files["history"]}
        prints = {name: sources.sha256(Path(path)) if path else "" for name, path in read.items()}
        tracking.log_params({"data": str(origin.path or origin.name), **files, **prints})
        tracking.log_dataset(origin.name, "predict", prints["data_sha256"], str(origin.path or "demo"))
        metrics = {"rows": scored + faults, "rows_scored": scored, "rows_with_errors": faults, "seconds": seconds}
        if index and scored >= FEWEST:
            metrics["score_drift"] = max(index)
        tracking.log_metrics({f"predict/{name}": value for name, value in metrics.items()})
        table = pd.DataFrame({"score": range(len(index)), "population stability index": index})
        tracking.log_item("score_drift", table)
        sections = [page.Section("Scores against those on test", [page.Exhibit(table)])]
        tracking.log_text("report.html", page.render(title, "\n\n".join(told), sections if index else []))
        tracking.rename(run_id, title, "\n\n".join(told))
    console = Console()
    console.print("\n".join(told), soft_wrap=True, highlight=False, markup=False)
    told = f"Written to {files['out']}. {tracking.report_at(run_id)}"
    console.print(told, soft_wrap=True, highlight=False, markup=False)


def _moved(index: Sequence[float], rows: int, far: float) -> str:
    """How far the scores have moved since test, in a sentence."""
    if not index:
        return "How far scores have moved since test is not known: the version does not carry those of its test."
    if rows < FEWEST:
        return f"Too few rows to say how far scores have moved since test: {FEWEST} are needed."
    told = f"Scores against those on test: population stability index {max(index):.3f}"
    if max(index) < far:
        return f"{told}, below {far:g}."
    return (
        f"BEWARE: {told}; from {far:g} on they have moved far. The data may be of another kind or time than those of "
        "training, or their columns may mean something else: look before you act on the decisions."
    )
