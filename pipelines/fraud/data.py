"""Payments in, records out: roles of columns, checks, the split by time, and the facts learnt from training rows."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from pandas.api import types

from pipelines.core.contract import InputError
from pipelines.core.data.dataset import joined
from pipelines.core.data.requests import Request, unlabelled
from pipelines.core.data.splits import Splits
from pipelines.core.reading import chunks, tables
from pipelines.fraud import Settings, demo

TEST, VALIDATION = 0.2, 0.15  # shares of the time span, or of the rows where there is no time
WHOLE_DAYS = 20  # from this many days on, sides begin at midnight
LOOK_BACK = pd.Timedelta(days=10)
"""How long a customer counts as known once a fraud became known: the mean of the 7 to 13 days in the Handbook's test
weeks. Without a bound, only a quarter of the Handbook's payments would remain after five months."""
RARE = 10  # training rows below which a category is not learnt
FULL_SETS = {"creditcard": (284_807, 492)}  # rows and frauds of public sets whose publishers give no checksum
RESERVED = {"id", "label", "time", "known_at", "group", "weight", "digest", "score"}
DAY = pd.Timedelta(days=1)


@dataclass(frozen=True)
class Layout:
    """What the columns of a known kind of table mean; `never` names columns that give the label away."""

    name: str = ""
    id: str = ""
    label: str = ""
    time: str = ""
    amount: str = ""
    entities: tuple[str, ...] = ()
    delay_days: float = 7.0
    never: tuple[str, ...] = ()


LAYOUTS = (
    Layout(
        "Fraud Detection Handbook",
        id="TRANSACTION_ID",
        label="TX_FRAUD",
        time="TX_DATETIME",
        amount="TX_AMOUNT",
        entities=("CUSTOMER_ID", "TERMINAL_ID"),
        never=("TX_FRAUD_SCENARIO",),
    ),
    Layout("ULB credit cards", label="Class", time="Time", amount="Amount", delay_days=0.0),
    Layout("demo data", "payment_id", "fraud", "time", "amount", ("customer", "terminal")),
)


# --------------------------------------------------------------------------------------------------------------- read


def read(path: Path | None, settings: Settings) -> pd.DataFrame:
    """The payments in order of time: the user's columns under their own names, and the canonical ones.

    Canonical are `id`, `label` (int8), `time` (datetime64[us]), `known_at` (when the label is known) and, with a base
    rate, `weight`. `attrs` holds the `roles` of the columns, `delay_days`, the recognised `layout` and `notes`, one
    sentence for each thing that was left out or assumed.

    Raises:
        InputError: where the file or a cell of it cannot be used, with file, row, column and what was expected. Rows
            count as in the file, so that the header of a CSV file is row 1.
    """
    return read_all([(path, settings)])


def read_all(parts: Sequence[tuple[Path | None, Settings]]) -> pd.DataFrame:
    """The payments of several reads as one; see `read`.

    Raises:
        InputError: where columns play other roles in one than in another, or an identifier stands for two payments.
    """
    settings = parts[-1][1]
    reads = [_payments(path, one) for path, one in parts]
    about, roles = reads[-1].attrs, reads[0].attrs["roles"]
    if about["roles"] != roles:
        raise InputError(f"{about['origin']}: expected columns of these roles, {roles}. Received: {about['roles']}.")
    records = joined(reads, roles["id"]) if len(reads) > 1 else reads[0]
    origin, layout, delay = about["origin"], about["layout"], about["delay_days"]
    notes = list(records.attrs["notes"])
    _refuse_unusable(records, settings, origin)

    left_out = dict(tables.useless(records, _features(records, roles)))
    records = records.drop(columns=list(left_out))
    notes += [f"{column} is left out: {reason}." for column, reason in left_out.items()]
    if roles["time"] and not layout and settings.label_delay_days < 0:
        notes.append(f"Labels are taken to be known after {delay:g} days: --label-delay-days says otherwise.")
    if not (roles["time"] and roles["entities"]):
        missing = " and no ".join(["time"] * (not roles["time"]) + ["entities"] * (not roles["entities"]))
        notes.append(f"No {missing} given: payments are judged without their history.")
    if settings.base_rate:
        records["weight"], weight = _weights(records["label"].to_numpy(), settings.base_rate, origin)
        notes.append(
            f"Each legitimate row stands for {weight:.2f} payments, so that {settings.base_rate:.3%} are frauds."
        )
    if roles["time"]:
        records = records.sort_values(["time", "id"], kind="stable", ignore_index=True)
    records.attrs = {"roles": roles, "delay_days": delay, "layout": layout, "notes": notes}
    return records


def _payments(path: Path | None, settings: Settings) -> pd.DataFrame:
    """The payments in one file; `attrs` with `roles`, `delay_days`, `layout`, `notes` and the file's name, `origin`."""
    # The demo data are the same for every seed, so that networks of several seeds are judged on the same payments.
    table, origin = (demo.make(seed=0), "demo data") if path is None else (tables.load(path), path.name)
    layout = max(LAYOUTS, key=lambda one: _overlap(one, table))
    layout = layout if _overlap(layout, table) > 1 else Layout()
    roles = _roles(table, layout, settings, origin)
    delay = settings.label_delay_days if settings.label_delay_days >= 0 else layout.delay_days
    _refuse_incomplete(table, roles, settings.data, origin)
    never = [column for column in layout.never if column in table]
    # Without identifiers, two payments that are alike to the second are one that was copied.
    copies = table.duplicated() if roles["time"] and not roles["id"] else pd.Series(False, table.index)
    facts = {"roles": roles, "delay_days": delay}
    records = parse(table[~copies].drop(columns=never), facts, origin).reset_index(drop=True)
    notes = [f"{column} is left out: it gives the label away." for column in never]
    if copies.any():
        notes.append(f"{copies.sum():,} rows are left out: exact copies of an earlier one.")
    records.attrs |= {"layout": layout.name, "notes": notes, "origin": origin}
    return records


def parse(table: pd.DataFrame, facts: dict, origin: str = "request") -> pd.DataFrame:
    """Raw payments as records, row by row in the given order; the same call for training and for requests.

    Args:
        table: raw columns; its index holds the row numbers that errors name. The label may be missing: -1.
        facts: `roles` and `delay_days`; with `numeric` and `categorical`, as learnt from training payments, the table
            must have those columns and others are ignored, without them every other column becomes what it looks like.
        origin: what errors call the table.

    Returns:
        The table's index; amount and numeric columns float64, other features text, each with NaN where missing.

    Raises:
        InputError: for a missing column, a cell that cannot be read, or an identifier that stands twice.
    """
    roles = facts["roles"]
    keys = [roles[role] for role in ("id", "label", "time", "amount") if roles[role]] + roles["entities"]
    learnt = [*facts.get("numeric", ()), *facts.get("categorical", ())]
    for column in [*(key for key in keys if key not in (roles["id"], roles["label"])), *learnt]:
        if column not in table:
            raise InputError(f"{origin}: expected the column '{column}'. Received: {tables.listed(table)}.")
    others = learnt if "numeric" in facts else [column for column in table if column not in keys]
    records = table[[column for column in (*keys, *others) if column in table]].copy()
    for column in others:
        numeric = column in facts["numeric"] if "numeric" in facts else tables.is_numeric(table[column])
        records[column] = tables.numbers(table[column], origin) if numeric else tables.texts(table[column])
    if roles["amount"]:
        records[roles["amount"]] = tables.numbers(table[roles["amount"]], origin, required=True)

    records["id"] = tables.identifiers(table, roles["id"], origin) if roles["id"] in table else table.index
    records["label"] = np.int8(-1)
    if roles["label"] in table:
        records["label"] = tables.flags(table[roles["label"]], "0 for legitimate or 1 for fraud", origin)
    if roles["time"]:
        records["time"] = tables.times(table[roles["time"]], origin)
        records["known_at"] = records["time"] + facts["delay_days"] * DAY
        if not types.is_numeric_dtype(records[roles["time"]]):
            records[roles["time"]] = records["time"]
    records.attrs = {"roles": roles, "delay_days": facts["delay_days"]}
    return records


def describe(records: pd.DataFrame) -> str:
    """What was read, in a few lines: size, balance, period, the role of each column, and what was left out."""
    roles, delay = records.attrs["roles"], records.attrs["delay_days"]
    period = ""
    if roles["time"]:
        first, last = records["time"].min(), records["time"].max()
        period = f" in {(last - first) / DAY:.1f} days, {_moment(first, records)} to {_moment(last, records)}"
    named = [f"{role} {roles[role]}" for role in ("id", "label", "time", "amount") if roles[role]]
    named += [f"entities {', '.join(roles['entities'])}"] * bool(roles["entities"])
    layout = f", recognised as {records.attrs['layout']}" if records.attrs["layout"] else ""
    return "\n".join(
        [
            f"{len(records):,} payments with {records['label'].sum():,} frauds ({records['label'].mean():.3%})"
            f"{period}{layout}",
            f"{'; '.join(named)}; labels known after {delay:g} days",
            *records.attrs["notes"],
        ]
    )


# -------------------------------------------------------------------------------------------------------------- split


def split(records: pd.DataFrame, settings: Settings) -> Splits:
    """The last `test_days`, or fifth of the time, are test, 15 % of the time before them validation, the rest train.

    With time, a label must be known before the next side begins: payments younger than the label delay there are left
    out. Headline rows are those of customers (the first entity) without a fraud that became known in the `LOOK_BACK`
    before the payment. Without time, rows are drawn at random, frauds and others alike.

    Raises:
        InputError: where the period is too short for the label delay.
    """
    roles, delay = records.attrs["roles"], records.attrs["delay_days"] * DAY
    if not roles["time"]:
        train, validation, test = _random_sides(records["label"].to_numpy())
        rule = "at random, stratified by label"
        return replace(judged(records, test), train=train, validation=validation, rule=rule)
    time = records["time"]
    first, last = time.min(), time.max()
    if last.normalize() - first.normalize() >= (WHOLE_DAYS - 1) * DAY:
        end = last.normalize() + DAY
        days = (end - first.normalize()) / DAY
        test, length = end - (settings.test_days or round(TEST * days)) * DAY, round(VALIDATION * days) * DAY
    else:
        span = last - first
        test, length = last - (settings.test_days * DAY or TEST * span), VALIDATION * span
    validation = test - delay - length
    if validation - delay <= first:
        raise InputError(
            f"the payments span {(last - first) / DAY:.1f} days, too few for train, validation and test with a label "
            f"delay of {delay / DAY:g} days between them: expected more payments, or a shorter --label-delay-days."
        )
    before, after = time < validation, time >= test
    known_before, known_between = records["known_at"] <= validation, records["known_at"] <= test
    sides = [before & known_before, ~before & ~after & known_between, after]
    rows = [np.flatnonzero(side) for side in sides]
    left_out = {
        "whose label was not known when validation began": int((before & ~known_before).sum()),
        "whose label was not known when test began": int((~before & ~after & ~known_between).sum()),
    }
    rule = f"by time: validation from {_moment(validation, records)}, test from {_moment(test, records)}"
    return replace(
        judged(records, rows[2]),
        train=rows[0],
        validation=rows[1],
        rule=f"{rule}; labels known after {delay / DAY:g} days",
        left_out={reason: count for reason, count in left_out.items() if count},
    )


def judged(records: pd.DataFrame, test: np.ndarray) -> Splits:
    """The split that has these rows for test and no others: which of them the headline counts, and what ties them."""
    roles = records.attrs["roles"]
    splits = Splits(test[:0], test[:0], test)
    if not (roles["time"] and roles["entities"]):
        return splits
    headline = np.ones(len(records), bool)
    headline[test] = ~known_customers(records, test)
    return replace(splits, headline=headline, clusters=tuple(roles["entities"]))


def known_customers(records: pd.DataFrame, rows: np.ndarray) -> np.ndarray:
    """Whether a fraud of the customer became known in the `LOOK_BACK` before each payment of `rows`, bool (n,)."""
    customer = records.attrs["roles"]["entities"][0]
    frauds = records.loc[records["label"] == 1, [customer, "known_at"]].dropna().sort_values("known_at")
    asked = records.iloc[rows][["time", customer]].assign(place=np.arange(len(rows))).sort_values("time")
    found = pd.merge_asof(
        asked,
        frauds.assign(known=True),
        left_on="time",
        right_on="known_at",
        by=customer,
        tolerance=LOOK_BACK,
        allow_exact_matches=False,  # with a delay of zero, a fraud does not know itself
    )
    return found.set_index("place")["known"].notna().sort_index().to_numpy()


def _moment(time: pd.Timestamp, records: pd.DataFrame) -> str:
    """A time as the user's column has it: a date, or seconds."""
    if types.is_numeric_dtype(records[records.attrs["roles"]["time"]]):
        return f"second {(time - tables.EPOCH).total_seconds():.0f}"
    return f"{time:%Y-%m-%d %H:%M}"


def _random_sides(labels: np.ndarray) -> Iterator[np.ndarray]:
    rank = np.empty(len(labels))
    rng = np.random.default_rng(0)  # not the run's seed: another seed is judged on the same test rows
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        rank[rng.permutation(rows)] = (np.arange(len(rows)) + 0.5) / len(rows)
    for low, high in ((TEST + VALIDATION, 1), (TEST, TEST + VALIDATION), (0, TEST)):
        yield np.flatnonzero((low <= rank) & (rank < high))


# ---------------------------------------------------------------------------------------------------- learn and decode


def adopt(records: pd.DataFrame, facts: dict) -> pd.DataFrame:
    """The records for a network that starts from another: it reads that one's columns alone, its categories first.

    No column is taken away, since records are known again by all that they say.
    """
    features = facts["features"]
    extra = [column for column in _features(records, records.attrs["roles"]) if column not in features]
    adopted = records.copy(deep=False)
    notes = [f"{name} is left out: the version that this one starts from does not know it." for name in extra]
    known = {"known": facts["categorical"], "kept": features}
    adopted.attrs = records.attrs | known | {"notes": [*records.attrs["notes"], *notes]}
    return adopted


def summary(records: pd.DataFrame, facts: dict) -> pd.DataFrame:
    """What drift is measured on, a row a payment: the columns that feed the network, and the hour of the day."""
    found = records[facts["features"]]
    return found.assign(**{"hour of the day": records["time"].dt.hour}) if "time" in records else found


def learn(train: pd.DataFrame, settings: Settings) -> dict:
    """What the training payments teach about the columns, as JSON.

    Returns:
        `roles` and `delay_days`; `numeric`, the numeric columns besides the amount; `categorical`, for each text
        column the values to tell apart; `features`, the columns that feed the network; `columns`, see there; `notes`.
        A column that does not vary in the training payments is no feature.
    """
    roles, notes = train.attrs["roles"], list(train.attrs["notes"])
    known, kept = train.attrs.get("known", {}), train.attrs.get("kept", ())  # of the network that this one starts from
    numeric, categorical = [], {}
    for column in [name for name in kept if name != roles["amount"]] or _features(train, roles):
        if types.is_numeric_dtype(train[column]):
            if column in kept or train[column].nunique(dropna=False) > 1:
                numeric.append(column)
        else:
            counts = train[column].value_counts()
            values = list(dict.fromkeys([*known.get(column, ()), *sorted(counts.index[counts >= RARE])]))
            if column in kept or (len(values) > 0 and len(counts) + train[column].hasnans > 1):
                categorical[column] = values
    features = [*[roles["amount"]] * bool(roles["amount"]), *numeric, *categorical]
    notes += [
        f"{column} is left out: it hardly varies among the training payments."
        for column in _features(train, roles)
        if column not in features and not kept
    ]
    return {
        "roles": roles,
        "delay_days": train.attrs["delay_days"],
        "numeric": numeric,
        "categorical": categorical,
        "features": features,
        "columns": _schema(train, roles, features),
        "notes": notes,
    }


def columns(facts: dict) -> dict[str, tuple[str, bool]]:
    """What a request holds: for each column double, datetime or string, and whether it must be there."""
    return {column: (kind, required) for column, (kind, required) in facts["columns"].items()}


def request(records: pd.DataFrame, facts: dict) -> pd.DataFrame:
    """These records as a request holds them: the columns that must be there."""
    needed = {column: kind for column, (kind, required) in columns(facts).items() if required}
    return records[list(needed)].astype({column: str for column, kind in needed.items() if kind == "string"})


def named(table: pd.DataFrame, facts: dict) -> pd.Series:
    """What each raw payment is called: its identifier, or its row."""
    identity = facts["roles"]["id"]
    return table[identity] if identity in table else table.index.to_series()


def age(records: pd.DataFrame, rows: np.ndarray, facts: dict) -> np.ndarray | None:
    """Days from the latest earlier payment that is not among `rows` to each that is, NaN where there is none; (n,).

    So old is the newest history that the payments are judged by, apart from one another. None where none is read.
    """
    if not (facts["roles"]["time"] and facts["roles"]["entities"]):
        return None
    time = records["time"].to_numpy("datetime64[us]")
    context = np.ones(len(records), bool)
    context[rows] = False
    past = np.sort(time[context])
    latest = np.searchsorted(past, time[rows]) - 1
    days = (time[rows] - np.append(past, np.datetime64("NaT"))[latest]) / np.timedelta64(1, "D")
    return days.astype(np.float32)


def requests(path: Path | None, history: Path | None, facts: dict, settings: Settings) -> Iterator[Request]:
    """All payments of a file as one request, in its order, with those of `history` as context.

    Scored are the payments without a label, or all if every one has one; a label counts as known after its delay. A
    payment at fault is left out: of what is scored, and of what others see of the past.

    Raises:
        InputError: for a file that is no table of payments like those of training.
    """
    if path is None:
        records = read(None, settings)
        rows, note = unlabelled(records["label"].to_numpy())
        yield Request(records, rows, notes=(note,))
        return
    parts, faults, held = _compact(path, facts)
    before, notes = 0, ()
    if history:
        past, lost, of_past = _compact(history, facts)
        before, parts, held = sum(len(part["id"]) for part in past), past + parts, set(held) & set(of_past)
        if len(lost):
            told = f"{len(lost):,} payments of {history.name} cannot be read and are left out: {lost['error'].iloc[0]}"
            notes = (told,)
    records = chunks.joined(parts)
    rows, note = unlabelled(records["label"].to_numpy()[before:])
    rows += before
    if facts["roles"]["id"] in held:
        records, rows, twice = chunks.once(records, rows, path.name)
        faults = pd.concat([faults, twice]).sort_index()
    yield Request(records.drop(columns="hash"), rows, faults, notes=(note, *notes))


def _compact(path: Path, facts: dict) -> tuple[chunks.Parts, pd.DataFrame, list[str]]:
    """The payments of a file with what scoring reads of them, about 50 bytes each; see `chunks.read`."""
    roles = facts["roles"]
    texts = [*roles["entities"], *facts["categorical"]]
    kinds = dict.fromkeys(["id", "label", *["time"] * bool(roles["time"]), *[roles["amount"]] * bool(roles["amount"])])
    kinds |= dict.fromkeys(facts["numeric"], np.float32) | dict.fromkeys(texts, "category")
    needed = {column: required for column, (_, required) in columns(facts).items()}
    names = [name for name in (roles["id"], *texts) if name]
    told = partial(parse, facts=facts, origin=path.name)
    return chunks.read(path, needed, names, told, partial(named, facts=facts), kinds)


def decode(records: pd.DataFrame, facts: dict) -> dict:
    """The network's inputs by name, for every record; see `history.inputs`."""
    from pipelines.fraud import history

    return history.inputs(records, facts)


def _schema(train: pd.DataFrame, roles: dict, features: list[str]) -> dict[str, list]:
    names = [roles["id"], *roles["entities"]]  # names are text, so that no digit is lost
    schema = {}
    for column in dict.fromkeys([*names, roles["time"], roles["label"], *features]):
        if column:
            number, date = types.is_numeric_dtype(train[column]), types.is_datetime64_any_dtype(train[column])
            kind = "string" if column in names or not (number or date) else "double" if number else "datetime"
            schema[column] = [kind, column not in (roles["id"], roles["label"])]
    return schema


# -------------------------------------------------------------------------------------------------------------- roles


def _overlap(layout: Layout, table: pd.DataFrame) -> int:
    return len({layout.label, layout.time, layout.amount} & set(table))


def _roles(table: pd.DataFrame, layout: Layout, settings: Settings, origin: str) -> dict:
    """The column that plays each role, "" where there is none; entities is a list."""
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
    taken = {column for _, column in flags}

    def free(column: str) -> bool:
        return column in table and column not in taken

    roles = {role: column or getattr(layout, role) * free(getattr(layout, role)) for role, column in named.items()}
    roles["entities"] = list(settings.entity) or [column for column in layout.entities if free(column)]
    if not roles["label"]:
        wanted = layout.label or "label"
        raise InputError(
            f"{origin} has no column '{wanted}': name the column that holds 1 for fraud and 0 for legitimate with "
            f"--label. Received: {tables.listed(table, wanted, 'fraud', 'class', 'target')}."
        )
    for column in sorted(RESERVED & set(table)):
        if column != roles.get(column):
            raise InputError(f"{origin}: the column '{column}' has a name that records keep for themselves: rename it.")
    return roles


def _refuse_incomplete(table: pd.DataFrame, roles: dict, name: str, origin: str) -> None:
    """A public set without a checksum must have the rows and frauds that it is known to have."""
    if name in FULL_SETS:
        rows, frauds = FULL_SETS[name]
        if (len(table), int((table[roles["label"]] == 1).sum())) != (rows, frauds):
            raise InputError(
                f"{origin}: expected {rows:,} payments with {frauds:,} frauds; delete the file, so that it is fetched "
                f"anew. Received: {len(table):,} payments."
            )


def _refuse_unusable(records: pd.DataFrame, settings: Settings, origin: str) -> None:
    labels = records["label"]
    if settings.alerts_per_day and "time" not in records:
        raise InputError(f"--alerts-per-day: expected payments with a time. Received: {origin} without one.")
    if (labels < 0).any():
        row = labels.index[labels < 0][0]
        raise InputError(
            f"{origin}, payment {records['id'][row]}: expected a label for training. Received: an empty cell."
        )
    counts = (len(labels), int(labels.sum()))
    if counts[1] in (0, counts[0]):
        raise InputError(
            f"{origin}: expected frauds and legitimate payments. Received: {counts[1]} frauds of {counts[0]}."
        )


def _features(records: pd.DataFrame, roles: dict) -> list[str]:
    """The user's columns that play no role."""
    return [c for c in records if c not in RESERVED and c not in roles["entities"] and c not in roles.values()]


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
