"""Score data of any size with a loaded version, and write its decisions to a file."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
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

from pipelines.core.contract import InputError
from pipelines.core.data.requests import Request, no_faults, rows_to_score
from pipelines.core.evaluation import drift
from pipelines.core.reading import tables

if TYPE_CHECKING:
    from mlflow.pyfunc import PyFuncModel

    from pipelines.core.serving.model import Scorer

WRITERS = {".csv": pyarrow.csv.CSVWriter, ".parquet": pyarrow.parquet.ParquetWriter}


# ------------------------------------------------------------------------------------------------------------- scoring


def write(
    model: PyFuncModel, *, data: str, path: str, history: str, out: str, name: str, number: int
) -> dict[str, Any]:
    """Write the decisions of the loaded version to `out`; it runs with the code that the version carries.

    Args:
        model: the loaded version.
        data: what the data are called; the name of a demo where there is no path.
        path: of the data, "" for a demo.
        history: path of past records, or "".
        out: file to write.
        name: of the registered model, a column of the file.
        number: of the version, a column of the file.

    Returns:
        `scored` and `faults` (rows), `seconds`, `notes` and, where the version knows its scores on test, `scores`: for
        each column the bins and `counts` of test, see `drift.binned`, and the counts of `now`.

    Raises:
        InputError: for data that do not fit, or none of which can be scored.
    """
    scorer: Scorer = model.unwrap_python_model()
    started = time.perf_counter()
    reference = scorer.score_bins
    counts = [np.zeros(len(column["counts"]), np.int64) for column in reference]
    scored, faults, waiting = 0, 0, [no_faults()]
    notes: tuple[str, ...] = ()
    with _progress() as progress, _writer(Path(out), {"model": name, "version": number}) as put:
        task = progress.add_task(f"Reading {data}", total=None)
        for request in requests(scorer, data, path, history):
            faults, notes = faults + len(request.faults), notes or request.notes
            waiting.append(request.faults)
            if not len(request.rows):
                continue  # the columns of the file are those of a row that is scored
            progress.update(task, description="Scoring", total=scored + faults + len(request.rows) + request.later)
            for decisions, scores in scorer.answers(replace(request, faults=pd.concat(waiting))):
                put(decisions)
                scored += len(scores)
                found = drift.columns(scores)
                for column, values, known in zip(counts, found, reference, strict=False):
                    column += drift.counts(values, known)
                progress.update(task, completed=scored + faults)
            waiting = [no_faults()]
        if not scored:
            errors = pd.concat(waiting)["error"]
            raise InputError(f"None of the {faults:,} rows of {data} can be scored. {''.join(errors[:1])}".strip())
        put(pd.concat(waiting))
    compared = [known | {"now": column.tolist()} for known, column in zip(reference, counts, strict=True)]
    seconds = time.perf_counter() - started
    return {"scored": scored, "faults": faults, "seconds": seconds, "notes": list(notes), "scores": compared}


def requests(scorer: Scorer, data: str, path: str, history: str) -> Iterator[Request]:
    """The data as requests: by the domain's own `requests`, or a table that is read whole."""
    domain = scorer.pipeline.data
    settings = scorer.pipeline.settings(data=data)
    of_data, of_history = (Path(place) if place else None for place in (path, history))
    if history and domain.CAPABILITIES.history is None:
        raise InputError(f"--history: expected none, since these data have no history. Received: {history}.")
    if domain.CAPABILITIES.requests:
        yield from domain.CAPABILITIES.requests(of_data, of_history, scorer.facts, settings)
        return
    faults = no_faults()
    if of_data is None:
        found = domain.read(None, settings)
    else:
        table = tables.load(of_data)
        found, faults = tables.parse_valid_rows(scorer.parse, table, scorer.names(table))
    rows, note = rows_to_score(found.labelled)
    yield Request(found, rows, faults, notes=(note,))


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
