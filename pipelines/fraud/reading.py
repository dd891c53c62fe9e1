"""Tables of payments as records: the roles of columns, recognised or named, and cells that are checked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from pandas.api import types

from pipelines.core.contract import InputError
from pipelines.core.data.dataset import Dataset, join
from pipelines.core.reading import tables
from pipelines.fraud import Settings, demo

FULL_SETS = {"creditcard": (284_807, 492)}  # rows and frauds of public sets whose publishers give no checksum
RESERVED = {"id", "label", "labelled", "time", "known_at", "group", "weight", "score"}
"""Names of columns that records keep for themselves."""
DAY = pd.Timedelta(days=1)
CLASSES = ("legitimate", "fraud")
"""Names of the classes by label."""


# -------------------------------------------------------------------------------------------------------------- roles


@dataclass(frozen=True)
class Roles:
    """The column that plays each role, "" where there is none; entities recur and have a history."""

    id: str = ""
    label: str = ""
    time: str = ""
    amount: str = ""
    entities: tuple[str, ...] = ()

    @property
    def columns(self) -> tuple[str, ...]:
        """Every column that plays a role."""
        return (*filter(None, (self.id, self.label, self.time, self.amount)), *self.entities)

    @property
    def tracked(self) -> tuple[str, ...]:
        """The entities whose past is known: none in a table without time."""
        return self.entities if self.time else ()

    def key(self, features: Iterable[str]) -> tuple[str, ...]:
        """Columns of the records by which a payment is recognised: its time, amount and entities.

        Where there are no entities or no time, these cannot tell payments apart, and `features`, the others, join them.
        """
        known = (*["time"] * bool(self.time), *filter(None, [self.amount]), *self.entities)
        return known if self.tracked else (*known, *features)


@dataclass(frozen=True)
class Layout:
    """A known kind of table; `never` names columns that give the label away."""

    name: str
    roles: Roles
    delay_days: float = 7.0
    never: tuple[str, ...] = ()


LAYOUTS = (
    Layout(
        "Fraud Detection Handbook",
        Roles("TRANSACTION_ID", "TX_FRAUD", "TX_DATETIME", "TX_AMOUNT", ("CUSTOMER_ID", "TERMINAL_ID")),
        never=("TX_FRAUD_SCENARIO",),
    ),
    Layout("ULB credit cards", Roles(label="Class", time="Time", amount="Amount"), delay_days=0.0),
    Layout("demo data", Roles("payment_id", "fraud", "time", "amount", ("customer", "terminal"))),
)
UNKNOWN = Layout("", Roles())


def recognise(table: pd.DataFrame) -> Layout:
    """The layout of which the table has at least two of label, time and amount, else `UNKNOWN`."""

    def shared(layout: Layout) -> int:
        return len({layout.roles.label, layout.roles.time, layout.roles.amount} & set(table))

    best = max(LAYOUTS, key=shared)
    return best if shared(best) > 1 else UNKNOWN


def assign(table: pd.DataFrame, known: Roles, settings: Settings, origin: str) -> Roles:
    """The roles that the settings name, and of the `known` ones those whose columns the table has.

    Raises:
        InputError: for a named column that is missing or named twice, a missing label, or a reserved name.
    """
    named = {role: getattr(settings, role) for role in ("id", "label", "time", "amount")}
    flags = [("--" + role, column) for role, column in named.items() if column]
    flags += [("--entity", column) for column in settings.entity]
    for place, (flag, column) in enumerate(flags):
        if column not in table:
            raise InputError(
                f"{origin} has no column '{column}', which {flag} names. Received: {tables.listed(table, column)}."
            )
        for other, same in flags[:place]:
            if same == column:
                raise InputError(f"expected a column for each role. Received: '{column}' for {other} and for {flag}.")
    free = set(table) - {column for _, column in flags}
    named = {role: column or getattr(known, role) * (getattr(known, role) in free) for role, column in named.items()}
    roles = Roles(**named, entities=settings.entity or tuple(column for column in known.entities if column in free))
    if not roles.label:
        wanted = known.label or "label"
        raise InputError(
            f"{origin} has no column '{wanted}': name the column that holds 1 for fraud and 0 for legitimate with "
            f"--label. Received: {tables.listed(table, wanted, 'fraud', 'class', 'target')}."
        )
    for column in sorted(RESERVED & set(table)):
        if column != getattr(roles, column, ""):
            raise InputError(f"{origin}: the column '{column}' has a name that records keep for themselves: rename it.")
    return roles


def others(table: pd.DataFrame, roles: Roles) -> list[str]:
    """The user's columns that play no role, in their order: those of which features are chosen."""
    return [column for column in table if column not in RESERVED and column not in roles.columns]


# ------------------------------------------------------------------------------------------------------------ records


@dataclass(frozen=True)
class Vocabulary:
    """What a version reads: its feature columns, and the known values of the text columns among them."""

    features: tuple[str, ...]
    categories: dict[str, tuple[str, ...]]


@dataclass(frozen=True)
class About:
    """What was recognised in a table of payments.

    Attributes:
        roles: of its columns.
        delay_days: days until a label is known.
        layout: name of the recognised layout, else "".
        start: what the version reads that training starts from, if any.
    """

    roles: Roles
    delay_days: float
    layout: str = ""
    start: Vocabulary | None = None


def read(path: Path | None, settings: Settings) -> Dataset[About]:
    """Read the payments of a file in order of time: the user's columns under their own names, and the canonical ones.

    Canonical are `id`, `label` (int8), `labelled`, `time` (datetime64[us]), `known_at` (when the label is known) and,
    with a base rate, `weight`. Only columns that give the label away are left out: features are chosen in `learn`.

    Raises:
        InputError: where the file or a cell of it cannot be used, with file, row, column and what was expected. Rows
            count as in the file, so that the header of a CSV file is row 1.
    """
    return append([(path, settings)])


def append(parts: Sequence[tuple[Path | None, Settings]]) -> Dataset[About]:
    """Read the payments of several files as one table; see `read`.

    Raises:
        InputError: where columns play other roles in one than in another, or an identifier stands for two payments.
    """
    path, settings = parts[-1]
    reads, origin = [_payments(*part) for part in parts], _name(path)
    about, roles = reads[-1].about, reads[0].about.roles
    if about.roles != roles:
        raise InputError(f"{origin}: expected columns of these roles, {roles}. Received: {about.roles}.")
    data = join(reads, roles.id) if len(reads) > 1 else reads[0]
    _refuse_unusable(data, settings, origin)

    records, notes = data.records, list(data.notes)
    if roles.time and not about.layout and settings.label_delay_days < 0:
        delay = f"{about.delay_days:g} days"
        notes.append(f"Labels are taken to be known after {delay}: --label-delay-days says otherwise.")
    if not roles.tracked:
        missing = " and no ".join(["time"] * (not roles.time) + ["entities"] * (not roles.entities))
        notes.append(f"No {missing} given: payments are judged without their history.")
    if settings.base_rate:
        records["weight"], weight = _weights(records["label"].to_numpy(), settings.base_rate, origin)
        share = f"{settings.base_rate:.3%}"
        notes.append(f"Each legitimate row stands for {weight:.2f} payments, so that {share} are frauds.")
    if roles.time:
        records = records.sort_values(["time", "id"], kind="stable", ignore_index=True)
    return replace(data, records=records, notes=tuple(notes))


def _name(path: Path | None) -> str:
    return path.name if path else "demo data"


def _payments(path: Path | None, settings: Settings) -> Dataset[About]:
    """The payments of one file, in its order."""
    # The demo data are the same for every seed, so that networks of several seeds are judged on the same payments.
    table, origin = tables.load(path) if path else demo.make(seed=0), _name(path)
    layout = recognise(table)
    roles = assign(table, layout.roles, settings, origin)
    delay = settings.label_delay_days if settings.label_delay_days >= 0 else layout.delay_days
    if settings.data in FULL_SETS:
        _refuse_incomplete(table[roles.label], *FULL_SETS[settings.data], origin)
    never = [column for column in layout.never if column in table]
    # Without identifiers, two payments that are alike to the second are one that was copied.
    copies = table.duplicated() if roles.time and not roles.id else pd.Series(False, table.index)
    data = parse(table[~copies].drop(columns=never), About(roles, delay, layout.name), None, origin)
    notes = [f"{column} is left out: it gives the label away." for column in never]
    if copies.any():
        notes.append(f"{copies.sum():,} rows are left out: exact copies of an earlier one.")
    return replace(data, records=data.records.reset_index(drop=True), notes=tuple(notes))


def parse(table: pd.DataFrame, about: About, numeric: Mapping[str, bool] | None, origin: str) -> Dataset[About]:
    """Parse raw payments row by row, in the given order; the same for training and for requests.

    Args:
        table: raw columns; its index holds the row numbers that errors name. The label may be missing.
        about: what is known of the table.
        numeric: columns to read besides those that play a role, and whether they are numbers; None reads every column
            as what it looks like.
        origin: what errors call the table.

    Returns:
        Records with the table's index; amount and numeric columns float64, others text or dates, NaN where missing.

    Raises:
        InputError: for a missing column, a cell that cannot be read, or an identifier that stands twice.
    """
    roles = about.roles
    if numeric is None:
        numeric = {column: tables.is_numeric(table[column]) for column in others(table, roles)}
    for column in [*filter(None, (roles.time, roles.amount)), *roles.entities, *numeric]:
        if column not in table:
            raise InputError(f"{origin}: expected the column '{column}'. Received: {tables.listed(table)}.")
    records = table[[column for column in (*roles.columns, *numeric) if column in table]].copy()
    for column, is_number in numeric.items():
        records[column] = tables.numbers(table[column], origin) if is_number else tables.texts(table[column])
    if roles.amount:
        records[roles.amount] = tables.numbers(table[roles.amount], origin, required=True)

    records["id"] = tables.identifiers(table, roles.id, origin) if roles.id in table else table.index
    records["label"], records["labelled"] = np.int8(-1), False
    if roles.label in table:
        records["label"] = tables.flags(table[roles.label], "0 for legitimate or 1 for fraud", origin)
        records["labelled"] = table[roles.label].notna()
    if roles.time:
        records["time"] = tables.times(table[roles.time], origin)
        records["known_at"] = records["time"] + about.delay_days * DAY
        if not types.is_numeric_dtype(records[roles.time]):
            records[roles.time] = records["time"]
    return Dataset(records, about, roles.key(numeric))


def _refuse_incomplete(labels: pd.Series, rows: int, frauds: int, origin: str) -> None:
    """A public set without a checksum must have the rows and frauds that it is known to have."""
    if (len(labels), int((labels == 1).sum())) != (rows, frauds):
        raise InputError(
            f"{origin}: expected {rows:,} payments with {frauds:,} frauds; delete the file, so that it is fetched "
            f"anew. Received: {len(labels):,} payments."
        )


def _refuse_unusable(data: Dataset[About], settings: Settings, origin: str) -> None:
    records = data.records
    if settings.alerts_per_day and "time" not in records:
        raise InputError(f"--alerts-per-day: expected payments with a time. Received: {origin} without one.")
    if not data.labelled.all():
        unknown = records["id"].iloc[np.argmin(data.labelled)]
        raise InputError(f"{origin}, payment {unknown}: expected a label for training. Received: an empty cell.")
    frauds, rows = int(records["label"].sum()), len(records)
    if frauds in (0, rows):
        raise InputError(f"{origin}: expected frauds and legitimate payments. Received: {frauds} frauds of {rows}.")
    if frauds > rows / 2 and not settings.base_rate:
        raise InputError(
            f"{origin}: expected 1 for fraud and 0 for legitimate. Received: 1 in {frauds:,} of {rows:,} rows: "
            f"exchange them in {data.about.roles.label!r} or, if legitimate rows were subsampled, name the share of "
            "frauds with --base-rate."
        )


def _weights(labels: np.ndarray, base_rate: float, origin: str) -> tuple[np.ndarray, float]:
    """The weight of every row, and that of a legitimate one, with which frauds make up `base_rate`."""
    frauds = int(labels.sum())
    weight = frauds * (1 - base_rate) / base_rate / (len(labels) - frauds)
    if not 0 < base_rate <= frauds / len(labels):
        raise InputError(
            f"--base-rate: expected a share above 0 and up to that of {origin}, {frauds / len(labels):.5f}, since "
            f"legitimate rows were subsampled. Received: {base_rate}."
        )
    return np.where(labels == 1, 1.0, weight), weight
