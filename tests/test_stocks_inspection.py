"""Faults planted in prices are refused or warned of by name, and clean prices of many kinds are neither."""

import re

import numpy as np
import pandas as pd
import pytest

from pipelines.core.contract import InputError
from pipelines.core.data.dataset import Dataset
from pipelines.core.data.splits import Splits
from pipelines.stocks import Settings, cleaning, data, demo

DAYS = 1_000
PRICES = ["Open", "High", "Low", "Close"]


def prices(days: int = DAYS, tickers: str = "ABC", seed: int = 0, level: float = 500, freq: str = "B") -> pd.DataFrame:
    """Prices in cents with a common part, a night's move, volatility that clusters, and a volume that goes with it."""
    rng, parts = np.random.default_rng(seed), []
    common = rng.normal(size=(days, 40))
    for ticker in tickers:
        volatility = 0.01 * np.exp(0.25 * np.convolve(rng.normal(size=days + 9), np.ones(10) / 10**0.5, "valid"))
        steps = (0.6 * common + 0.8 * rng.normal(size=(days, 40))) * volatility[:, None] / 40**0.5
        path = np.concatenate([np.zeros((days, 1)), steps.cumsum(axis=1)], axis=1)
        night = rng.normal(size=days) * volatility * 0.4
        opening = np.cumsum(night + path[:, -1]) - path[:, -1]
        path = np.maximum((level * np.exp(opening[:, None] + path) * 100).round(), 1) / 100
        bars = {"Open": path[:, 0], "High": path.max(axis=1), "Low": path.min(axis=1), "Close": path[:, -1]}
        volume = (1e6 * volatility * np.exp(0.3 * rng.normal(size=days)) * (0.5 + np.ptp(path, axis=1) / level)).round(
            3
        )
        volume *= 1 + 50 * np.ptp(path, axis=1) / level
        dates = pd.date_range("2012-01-02", periods=days, freq=freq)
        parts.append(pd.DataFrame({"Date": dates, "Ticker": ticker, **bars, "Volume": volume}))
    return pd.concat(parts, ignore_index=True)


def read(table: pd.DataFrame) -> Dataset:
    notes: list[str] = []
    return data._dataset(cleaning.clean(cleaning.standardise(table, "", "own.csv", {}, notes), "own.csv", notes), notes)


def inspected(table: pd.DataFrame) -> Splits:
    dataset = read(table)
    splits = data.split(dataset, Settings())
    return data.CAPABILITIES.inspect(dataset, splits, None, Settings())


def refusal(table: pd.DataFrame) -> str:
    with pytest.raises(InputError) as error:
        inspected(table)
    assert "\n" not in str(error.value)
    return str(error.value)


def of_each(change):
    """The change made to each ticker's rows."""

    def changed(table: pd.DataFrame) -> pd.DataFrame:
        rows = [change(own.reset_index(drop=True)) for _, own in table.groupby("Ticker")]
        return pd.concat(rows, ignore_index=True)

    return changed


def moved(*columns: str, days: int = -1, widened: bool = False):
    """Columns of another day; `widened` makes high and low hold open and close again, as a user may have done."""

    def change(own: pd.DataFrame) -> pd.DataFrame:
        own[list(columns)] = own[list(columns)].shift(days)
        if widened:
            own = own.assign(High=own[PRICES].max(axis=1), Low=own[PRICES].min(axis=1))
        return own.dropna()

    return of_each(change)


def repeated(every: int):
    def change(own: pd.DataFrame) -> pd.DataFrame:
        return own.where(pd.Series(own.index % every != 1)).ffill().assign(Date=own["Date"])

    return of_each(change)


def flattened(every: int):
    def change(own: pd.DataFrame) -> pd.DataFrame:
        flat = own.index % every == 0
        return own.assign(**{name: own[name].where(~flat, own["Close"]) for name in PRICES})

    return of_each(change)


def calendar_days(fill: str):
    def change(own: pd.DataFrame) -> pd.DataFrame:
        every = own.set_index("Date").asfreq("D")
        if fill == "lines":
            every[[*PRICES, "Volume"]] = every[[*PRICES, "Volume"]].interpolate()
        return every.ffill().reset_index()

    return of_each(change)


@of_each
def holidays(own: pd.DataFrame) -> pd.DataFrame:
    closed = own["Date"].dt.strftime("%m-%d").isin(["01-01", "05-01", "07-04", "12-25"])
    return own.where(~closed).ffill().assign(Date=own["Date"])


def averaged(days: int):
    return of_each(lambda own: own.assign(**{name: own[name].rolling(days).mean() for name in PRICES}).dropna())


@of_each
def exchanged(own: pd.DataFrame) -> pd.DataFrame:
    """Days and months exchanged where both are possible."""
    date = own["Date"]
    swapped = pd.to_datetime({"year": date.dt.year, "month": date.dt.day.clip(upper=12), "day": date.dt.month})
    return own.assign(Date=swapped.where(date.dt.day <= 12, date)).drop_duplicates("Date", keep="last")


@of_each
def later_adjusted(own: pd.DataFrame) -> pd.DataFrame:
    return own.assign(**{"Adj Close": own["Close"].shift(-1)}).dropna()


@of_each
def rolling_bars(own: pd.DataFrame) -> pd.DataFrame:
    later = own[::-1]
    return own.assign(High=later["High"].rolling(3, 1).max(), Low=later["Low"].rolling(3, 1).min())


@of_each
def of_closes(own: pd.DataFrame) -> pd.DataFrame:
    made = own.assign(Open=own["Close"].shift(), High=own["Close"], Low=own["Close"]).dropna()
    return made.assign(High=made[PRICES].max(axis=1), Low=made[PRICES].min(axis=1))


@of_each
def other_source(own: pd.DataFrame) -> pd.DataFrame:
    """Closes of another source, each of which is off by itself."""
    off = np.random.default_rng(3).normal(0, 0.006, len(own))
    close = own["Close"] * np.exp(off)
    return own.assign(
        Close=close, High=np.maximum(own["High"], close * 1.001), Low=np.minimum(own["Low"], close / 1.001)
    )


@of_each
def shuffled_closes(own: pd.DataFrame) -> pd.DataFrame:
    return own.assign(Close=own["Close"].sample(frac=1, random_state=0).to_numpy())[["Date", "Ticker", "Close"]]


def without_prices(table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(Close=table["Close"].where(table.index % 10 > 2))


REFUSED = [
    (lambda t: prices(freq="W-FRI"), "not daily", "every 7 days"),
    (calendar_days("repeats"), "stand still on Saturdays and Sundays", "A (100% calmer)"),
    (calendar_days("lines"), "closes lie on straight lines", "A (2"),
    (repeated(8), "all prices are those of the day before, such as on 2012-01-03", "% of days"),
    (flattened(8), "open, high, low and close are one price", "leave out the columns open, high and low"),
    (flattened(1), "open, high, low and close are one price", "A (100.0% of days)"),
    (lambda t: repeated(3)(t)[["Date", "Ticker", "Close"]], "closes are those of the day before", "leave out the days"),
    (averaged(2), "returns go with those of the day before", "correlation 0."),
    (averaged(5), "returns go with those of the day before", "correlation 0."),
    (lambda t: t.assign(High=t["Low"], Low=t["High"]), "high and low do not hold open and close", "A (100.0% of days)"),
    (moved("Close"), "high and low do not hold open and close", "% of days"),
    (moved("High", "Low"), "high and low do not hold open and close", "% of days"),
    (moved("Close", widened=True), "as if closes were those of the next day", "put the columns on their own days"),
    (moved("Open", widened=True), "high and low hold the open and close of the next day", "put the columns"),
    (moved("High", "Low", widened=True), "high and low hold the open and close of the next day", "put the columns"),
    (moved("Volume"), "volume changes with the variance of the next day", "leave it out"),
    (later_adjusted, "the adjusted close moves as the close of the next day", "put the columns"),
    (rolling_bars, "as if taken over several days", "use the high and low of each day"),
    (of_each(lambda own: own.assign(Date=own["Date"].to_numpy()[::-1])), "nearer to the close of the next", "reverse"),
    (of_each(lambda own: own.assign(Date=own["Date"].sample(frac=1, random_state=0).to_numpy())), "dates", "one name"),
]
WARNED = [
    (without_prices, "rows lack a price above 0", "% of rows"),
    (holidays, "stand still on 1 January and 25 December", "of these days"),
    (lambda t: holidays(t)[["Date", "Ticker", "Close"]], "stand still on 1 January and 25 December", "2012-12-25"),
    (exchanged, "some prices are of Saturdays or Sundays", "days and months"),
    (repeated(40), "all prices are those of the day before, such as on 2012-01-03", "A (2.5% of days)"),
    (flattened(40), "open, high, low and close are one price", "A (2.5% of days)"),
    (other_source, "as if opens or closes were of another day", "correlation 0."),
    (shuffled_closes, "moves are undone the next day", "correlation -0."),
    (of_closes, "as if made of closes", "leave out the columns open, high and low"),
    (
        lambda t: t.assign(Date=t["Date"].where(t.index != 999, pd.Timestamp("2099-01-01"))),
        "to come",
        "A on 2099-01-01",
    ),
    (lambda t: t.assign(Date=t["Date"].where(t.index != 0, pd.Timestamp("1970-01-01"))), "dates before", "1970-01-01"),
]


@pytest.mark.parametrize(("plant", "seen", "more"), REFUSED, ids=[seen for _, seen, _ in REFUSED])
def test_prices_on_which_figures_would_be_worthless_are_refused(plant, seen, more):
    sentence = refusal(plant(prices()))
    assert seen in sentence
    assert more in sentence


@pytest.mark.parametrize(("plant", "seen", "more"), WARNED, ids=[seen for _, seen, _ in WARNED])
def test_faults_that_leave_figures_usable_are_warned_of(plant, seen, more):
    warnings = inspected(plant(prices())).warnings
    assert any(seen in warning and more in warning for warning in warnings), warnings


def test_one_bad_ticker_among_many_is_a_warning_that_names_it_alone():
    table, late = prices(tickers="ABCDEFGHIJKL"), moved("Volume")(prices(tickers="ABCDEFGHIJKL"))
    (warning,) = inspected(pd.concat([table[table["Ticker"] != "F"], late[late["Ticker"] == "F"]])).warnings
    assert re.match(r"Prices of F \(by \d\.\d\d in correlation\): volume changes with", warning)


def test_a_fault_of_the_test_period_alone_is_seen():
    table = prices(days=2_000)
    late = table["Date"] >= "2018-01-01"
    sentence = refusal(pd.concat([table[~late], moved("Volume")(table[late])]))
    assert sentence.startswith("Prices of the test period of ")


# ------------------------------------------------------------------------------------------------------------- tickers


def with_copy(days: int, factor: float = 1, noise: float = 0) -> pd.DataFrame:
    table = prices()
    copy = table[table["Ticker"] == "A"].assign(Ticker="Z")
    copy[PRICES] = (copy[PRICES] * factor * np.exp(noise * np.random.default_rng(0).normal(size=(DAYS, 1)))).round(2)
    copy[[*PRICES, "Volume"]] = copy[[*PRICES, "Volume"]].shift(days)
    return pd.concat([table, copy.dropna()], ignore_index=True)


@pytest.mark.parametrize(("factor", "noise"), [(1, 0), (1.37, 0), (0.1, 0), (1, 3e-4)])
def test_one_series_under_two_names_is_a_warning(factor, noise):
    (warning,) = inspected(with_copy(0, factor, noise)).warnings
    assert re.search(r"\bA and Z\b.*one series under two names.*leave one out", warning)


@pytest.mark.parametrize("days", [1, 2, 300])
@pytest.mark.parametrize("factor", [1, 2.3])
def test_a_ticker_that_knows_the_next_days_of_another_is_refused(days, factor):
    sentence = refusal(with_copy(days, factor))
    assert sentence.startswith("Z from 20")
    assert "Received: the moves of A from 2012" in sentence


def test_a_ticker_that_nearly_knows_the_next_day_of_another_is_refused():
    assert re.match(
        "[AZ]: expected returns that do not give .* 1 day (later|before);", refusal(with_copy(1, noise=3e-4))
    )


def test_days_that_come_twice_in_one_ticker_are_refused():
    table = prices(tickers="A")
    table.loc[700:899, PRICES] = table.loc[200:399, PRICES].to_numpy()
    assert re.match("A from 201[45].* Received: the moves of A from 2012", refusal(table))


@pytest.mark.parametrize(("days", "apart"), [(1, "1 day later"), (-1, "1 day before")])
def test_a_ticker_whose_dates_are_off_by_a_day_is_a_warning(days, apart):
    table = prices(tickers="ABCDE")
    table["Date"] = table["Date"].where(table["Ticker"] != "C", table.groupby("Ticker")["Date"].shift(days))
    (warning,) = inspected(table.dropna()).warnings
    assert f"Returns of C go with those of the other tickers {apart}" in warning


# ----------------------------------------------------------------------------------------------------- no false alarms


@pytest.mark.parametrize("given", ["demo", "random-walk"])
def test_demo_data_raise_no_alarm(given):
    dataset = data.read(None, Settings(data=given))
    assert data.CAPABILITIES.inspect(dataset, data.split(dataset, Settings()), None, Settings()).warnings == ()


@pytest.mark.parametrize("level", [500, 50, 5, 2, 0.5, 0.05])
@pytest.mark.parametrize("columns", [PRICES, ["Close"]], ids=["bars", "closes"])
def test_shares_of_any_price_raise_no_alarm(level, columns):
    """Of some cents, most days are flat or equal to the one before."""
    assert inspected(prices(level=level)[["Date", "Ticker", *columns]]).warnings == ()


@pytest.mark.parametrize("trades", [0.7, 2, 5])
def test_shares_of_a_few_trades_a_day_raise_no_alarm(trades):
    rng, table = np.random.default_rng(1), prices(days=1_500)
    count, ends = rng.poisson(trades, len(table)), table[PRICES].to_numpy()
    low, high = ends[:, 2], ends[:, 1]
    traded = [rng.uniform(low[row], high[row], max(number, 1)).round(2) for row, number in enumerate(count)]
    bars = {"Open": [t[0] for t in traded], "High": [max(t) for t in traded], "Low": [min(t) for t in traded]}
    thin = table.assign(**bars, Close=[t[-1] for t in traded], Volume=100 * count)
    assert inspected(thin[count > 0]).warnings == ()


def test_prices_that_are_traded_on_weekends_raise_no_alarm():
    assert inspected(prices(freq="D")).warnings == ()


def test_prices_that_move_mostly_at_night_raise_no_alarm():
    """As of a share whose main exchange is in another time zone."""
    table = prices()
    night = np.random.default_rng(2).normal(0, 0.02, len(table)).cumsum()
    assert inspected(table.assign(**{name: table[name] * np.exp(night) for name in PRICES})).warnings == ()


@pytest.mark.parametrize("seed", range(3))
def test_walks_of_other_seeds_raise_no_alarm(seed):
    table = demo.random_walk(seed + 1)
    assert inspected(table[table["Date"] < "2010"]).warnings == ()


def test_rows_before_a_ticker_began_are_not_missing():
    table = prices()
    young = (table["Ticker"] == "B") & (table["Date"] < "2014")
    assert inspected(table.assign(Close=table["Close"].where(~young))).warnings == ()


@pytest.mark.real
def test_real_prices_raise_no_alarm_together_or_alone(real_data):
    folder = real_data / "stocks" / "djia_2006_2017"
    for path in (folder, *sorted(folder.glob("*.csv"))[::6]):
        dataset = data.read(path, Settings())
        assert data.CAPABILITIES.inspect(dataset, data.split(dataset, Settings()), None, Settings()).warnings == ()
