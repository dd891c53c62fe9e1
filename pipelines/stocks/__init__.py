"""Daily prices of one or many tickers: their volatility and the distribution of their returns, up to a month ahead."""

from dataclasses import dataclass

from pipelines.core import contract
from pipelines.core.contract import Gate, Metric, Pipeline


@dataclass(frozen=True)
class Settings(contract.Settings):
    """Settings of the stocks pipeline."""

    epochs: int = 16
    """Most passes over the training rows; see `patience`."""
    patience: int = 6
    """Epochs without a better validation loss before training stops."""
    batch_size: int = 256
    """Ticker-days in one training step."""
    weight_decay: float = 5.0
    """Decay of the weights per step, as a share of the learning rate (AdamW)."""
    test_start: str = ""
    """First day of the test period, such as 2014-01-01; by default the last fifth of the days is test."""
    cost_bp: float = 5.0
    """Cost of trading in the trading check, in basis points of the amount traded."""
    window: int = 44
    """Past days that the network reads, the day of the forecast included."""
    date: str = ""
    """Column with the day; recognised under its usual names."""
    ticker: str = ""
    """Column with the ticker; recognised under its usual names; without one, the file's name is the ticker."""

    @property
    def named(self) -> dict[str, str]:
        """The columns that flags name, by role, "" for none."""
        return {"date": self.date, "ticker": self.ticker}


PIPELINE = Pipeline(
    name="stocks",
    title="Daily prices: the volatility and the distribution of returns over the next 1, 5 and 21 days",
    settings=Settings,
    # Published forecasts are at .9 and above.
    headline=Metric(
        "qlike_ratio_har_1d", higher=False, short="QLIKE to HAR", title="QLIKE relative to HAR", implausible=0.6
    ),
    gates=(Gate("constant", shown=True), Gate("har")),
    level=0.98,
    demos={
        "demo": "The prices are real ones of two indices, S&P 500 and NASDAQ, 1999 to 2018.",
        "random-walk": "The prices are simulated random walks of constant volatility: nothing can be forecast.",
    },
)
