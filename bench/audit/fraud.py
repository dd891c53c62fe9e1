"""Payments with planted faults: columns, times and entities that give the label away, copies, inverted labels."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bench.audit.faults import COPIES, LABELS, Domain, Fault
from pipelines.fraud import PIPELINE

PAYMENTS, DAYS, FRAUDS = 6_000, 90, 0.04
CUSTOMERS, TERMINALS = 150, 120
TRAINED, TESTED = 40, 74  # days: before the first all payments train, from the second on all are test
DAY, AT_ONCE = pd.Timedelta(days=1), pd.Timedelta(0)


def clean(rng: np.random.Generator) -> pd.DataFrame:
    """Payments in the columns of the demo and a few more; customers return to eight terminals each.

    Frauds are dearer, more often online and at night, and at any of the customer's terminals alike.
    """
    fraud = rng.random(PAYMENTS) < FRAUDS
    hour = np.where(fraud & (rng.random(PAYMENTS) < 0.5), rng.uniform(0, 24, PAYMENTS), rng.normal(14, 4, PAYMENTS))
    second = np.sort(rng.integers(0, DAYS, PAYMENTS)) * 86_400 + np.round(hour % 24 * 3_600)
    online = rng.random(PAYMENTS) < np.where(fraud, 0.5, 0.25)
    customer, shops = rng.integers(0, CUSTOMERS, PAYMENTS), rng.integers(0, TERMINALS, (CUSTOMERS, 8))
    rank = np.where(fraud, rng.integers(0, 8, PAYMENTS), np.minimum(rng.geometric(0.4, PAYMENTS), 8) - 1)  # habits
    device = rng.choice(["phone", "tablet", "watch"], PAYMENTS).astype(object)
    return pd.DataFrame(
        {
            "payment_id": np.arange(PAYMENTS),
            "time": pd.Timestamp("2024-01-01") + pd.to_timedelta(second, unit="s"),
            "customer": [f"C{number:03d}" for number in customer],
            "terminal": [f"T{number:03d}" for number in shops[customer, rank]],
            "amount": (rng.lognormal(np.log(30), 0.8, PAYMENTS) * np.where(fraud, 2, 1)).round(2),
            "channel": np.where(online, "online", rng.choice(["chip", "contactless"], PAYMENTS)),
            "branch": rng.choice(np.arange(4_100, 4_130), PAYMENTS),
            "device": np.where(rng.random(PAYMENTS) < 0.2, None, device),
            "balance": rng.normal(900, 250, PAYMENTS).round(2),
            "fraud": fraud.astype(int),
        }
    ).sort_values("time", kind="stable", ignore_index=True)


def write(table: pd.DataFrame, folder: Path) -> Path:
    """The payments as a CSV file."""
    folder.mkdir()
    table.to_csv(folder / "payments.csv", index=False)
    return folder / "payments.csv"


# ------------------------------------------------------------------------------------------------------------- plants


def _given(
    column: str, frauds: Callable[[np.random.Generator], Any], others: Callable[[np.random.Generator], Any]
) -> Callable[[pd.DataFrame, np.random.Generator], pd.DataFrame]:
    """Plant a column drawn in one way for frauds, in another for legitimate payments: (PAYMENTS,) or one value each."""

    def plant(table: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
        values = pd.Series(others(rng), table.index, dtype=object)
        return table.assign(**{column: values.where(table["fraud"] == 0, pd.Series(frauds(rng), table.index))})

    return plant


def _missing(rng: np.random.Generator) -> None:
    return None


def _if_fraud(column: str, change: Callable[[pd.Series], Any]) -> Callable[..., pd.DataFrame]:
    """Plant another form of a column's cells for frauds."""
    return lambda table, rng: table.assign(
        **{column: table[column].where(table["fraud"] == 0, change(table[column])).array}
    )


def _in_some(column: str, share: float, plant: Callable[..., pd.DataFrame]) -> Callable[..., pd.DataFrame]:
    """Plant the column in this share of the rows alone; others have an empty cell."""

    def some(table: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
        full = plant(table, rng)
        return full.assign(**{column: full[column].where(rng.random(len(table)) < share)})

    return some


def _pure_code(table: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    third = (table["fraud"] == 1) & (rng.random(len(table)) < 0.35)
    return table.assign(branch=table["branch"].mask(third, 9_999))


def _nearly_the_label(table: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    said = table["fraud"].mask(rng.random(len(table)) < 0.01, 1)
    return table.assign(confirmed=np.where(said == 1, "Y", "N"))


def _score(table: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """A normal number, six standard deviations higher for frauds."""
    return table.assign(risk=(rng.normal(0, 1, len(table)) + 6 * table["fraud"]).round(3))


def _repeated(
    count: int, of_test: bool = False, later: pd.Timedelta = AT_ONCE, flipped: bool = False
) -> Callable[..., pd.DataFrame]:
    """Copies of payments that train, or of test, under new identifiers, `later` than the original."""

    def plant(table: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
        day = (table["time"] - table["time"].min().normalize()) // DAY
        rows = np.flatnonzero(day.between(TESTED, DAYS - 2) if of_test else day < TRAINED)
        frauds = rows[table["fraud"].iloc[rows] == 1]
        chosen = np.concatenate([frauds[: count // 2], rng.choice(rows, count - len(frauds[: count // 2]))])
        copies = table.iloc[np.unique(chosen)]
        # Seconds move too, so that no time of day repeats to the second.
        seconds = rng.integers(1, 600, len(copies)) * (later > AT_ONCE)
        copies = copies.assign(
            payment_id=PAYMENTS + np.arange(len(copies)),
            time=copies["time"] + later + pd.to_timedelta(seconds, unit="s"),
            fraud=1 - copies["fraud"] if flipped else copies["fraud"],
        )
        return pd.concat([table, copies]).sort_values("time", kind="stable", ignore_index=True)

    return plant


def _without_time(table: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    return _repeated(600)(table, rng).drop(columns=["time", "customer", "terminal"])


def _half_with_zone(table: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    local = (table["time"] + pd.Timedelta(hours=2)).dt.strftime("%Y-%m-%dT%H:%M:%S+02:00")
    return table.assign(time=local.where(rng.random(len(table)) < 0.5, table["time"].astype(str)))


def _unchanged(table: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    return table


TIME = r"\btime\b"
BLOCKED = ["2024-05-02", "2024-05-13", "2024-05-27"]
INVESTIGATED = ["M. Lee", "A. Roy", "P. Diaz", "K. Ito"]

FAULTS = (
    Fault("frauds stamped 00:00:00", "disputes were entered by date, and the hour feeds the network", "refused",
          TIME, _if_fraud("time", lambda time: time.dt.normalize()), fast=True),
    Fault("frauds stamped to the minute", "the second 0 is the mark of another system", "refused",
          TIME, _if_fraud("time", lambda time: time.dt.floor("min"))),
    Fault("legitimate payments stamped 00:00:00", "a time of day is known for investigated payments alone", "refused",
          TIME, lambda table, rng: table.assign(
              time=table["time"].where(table["fraud"] == 1, table["time"].dt.normalize()))),
    Fault("number filled for frauds alone", "a refund follows the label", "refused",
          "refund", _given("refund", lambda rng: rng.normal(50, 9, PAYMENTS), _missing), fast=True),
    Fault("text filled for frauds alone", "only a fraud has an investigator", "refused",
          "investigator", _given("investigator", lambda rng: rng.choice(INVESTIGATED, PAYMENTS), _missing)),
    Fault("date filled for frauds alone", "a card is blocked after the fraud", "refused",
          "blocked_on", _given("blocked_on", lambda rng: rng.choice(BLOCKED, PAYMENTS), _missing)),
    Fault("number filled for legitimate payments alone", "money is settled unless the payment is stopped", "refused",
          "settled", _given("settled", _missing, lambda rng: rng.normal(50, 9, PAYMENTS))),
    Fault("text empty for frauds, else filled", "the field was cleared when the dispute was opened", "refused",
          "browser", _given("browser", _missing, lambda rng: rng.choice(["Firefox", "Safari", "Edge"], PAYMENTS))),
    Fault("text empty for half of the frauds alone", "the field was cleared when a dispute was opened", "warned",
          "browser", lambda table, rng: table.assign(browser=np.where(
              (table["fraud"] == 1) & (rng.random(PAYMENTS) < 0.5), None, rng.choice(["A", "B"], PAYMENTS)))),
    Fault("customer missing for frauds", "the account was deleted after the fraud", "refused",
          "customer", _if_fraud("customer", lambda names: pd.Series(None, names.index, dtype=object)), fast=True),
    Fault("terminal missing for frauds", "frauds come from a table without terminals", "refused",
          "terminal", _if_fraud("terminal", lambda names: pd.Series(None, names.index, dtype=object))),
    Fault("customers written in another way for frauds", "the form tells from which table a row came", "refused",
          "customer", _if_fraud("customer", lambda names: "c-" + names.str[1:])),
    Fault("one terminal for all frauds", "disputes were booked on a terminal that takes no payments", "refused",
          "terminal", _if_fraud("terminal", lambda names: "T999")),
    Fault("text that names the label", "a status written after the label was known", "refused",
          "status", _given("status", lambda rng: "chargeback", lambda rng: "settled")),
    Fault("text that gives the label away where present", "a memo is rare, but written after the dispute", "warned",
          "memo", _in_some("memo", 0.3, _given("memo", lambda rng: "disputed", lambda rng: "ok"))),
    Fault("codes as numbers that determine the label", "reason codes of disputes, no order among them", "refused",
          "reason", _given("reason", lambda rng: rng.choice(np.arange(101, 140, 4), PAYMENTS),
                           lambda rng: rng.choice(np.arange(103, 140, 4), PAYMENTS))),
    Fault("code that a third of the frauds have alone", "a code that investigators set", "warned",
          r"branch", _pure_code, fast=True),
    Fault("the label under another name", "a second column of the label", "refused",
          "is_bad", lambda table, rng: table.assign(is_bad=table["fraud"])),
    Fault("the label with one error in a hundred", "frauds are rare: an AUC of .995 hides a precision of .8", "refused",
          "confirmed", _nearly_the_label),
    Fault("number that is the label plus noise", "a score computed from the label", "refused", "risk", _score),
    Fault("such a number, known for a third of payments", "a score computed from the label", "warned",
          "risk", _in_some("risk", 0.3, _score)),
    Fault("date of the chargeback", "a date after the payment tells that it was disputed", "refused",
          "chargeback", _given("chargeback", lambda rng: pd.Timestamp("2024-04-20"), _missing)),
    Fault("days until the case was closed", "a number of the time after the payment", "refused",
          "days_open", _given("days_open", lambda rng: rng.integers(20, 40, PAYMENTS),
                              lambda rng: rng.integers(1, 4, PAYMENTS))),
    Fault("exact copies in test under new identifiers", "test seems larger than it is: intervals are too narrow",
          "warned", COPIES, _repeated(500, of_test=True), least=500),
    Fault("training payments again in test, new id and time", "the network has learnt their labels", "warned",
          COPIES, _repeated(400, later=48 * DAY), least=250, fast=True),
    Fault("copies within test, new id and time", "test seems larger than it is: intervals are too narrow", "warned",
          COPIES, _repeated(300, of_test=True, later=pd.Timedelta(minutes=5)), least=300),
    Fault("one payment under two labels", "at least one of the labels is wrong", "warned",
          LABELS, _repeated(200, flipped=True)),
    Fault("copies in a table without times", "a draw at random puts copies on several sides", "warned",
          COPIES, _without_time),
    Fault("times with and without a zone", "half of the hours are off by the zone", "warned", "zone", _half_with_zone),
    Fault("labels known at once", "a history of frauds that nobody knew of yet feeds the network", "warned",
          "delay", _unchanged, flags={"label_delay_days": 0.0}),
    Fault("inverted labels", "1 stands for legitimate: every figure is of the wrong class", "refused",
          r"invert|more than half|legitimate", lambda table, rng: table.assign(fraud=1 - table["fraud"]), fast=True),
)  # fmt: skip

DOMAIN = Domain(PIPELINE, clean, write, FAULTS)
