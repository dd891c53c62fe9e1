"""The registered model of stocks, loaded and served: price history in, the forecasts that the run logged out."""

import mlflow
import numpy as np
import pandas as pd
import pytest
from test_serve import answers, asked, assert_malformed_requests_get_a_sentence, predicted, predictions, served, train
from test_stocks_baselines import autoregressive, prices

from pipelines.stocks.model import LEVELS

pytestmark = pytest.mark.slow
VARIANCES, QUANTILES = [f"network_{k}" for k in range(3)], [f"network_{k}" for k in range(3, 3 + 3 * len(LEVELS))]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder in which a user has trained on prices of their own, and the prices."""
    folder = tmp_path_factory.mktemp("own")
    table = prices(autoregressive(3, 1_000, 0), 0)
    table.to_csv(folder / "prices.csv", index=False)
    train(folder, "stocks", "--data", "prices.csv", "--epochs", "1", "--examples", "full")
    return folder, table


def assert_equals_the_run(answered: pd.DataFrame, folder) -> None:
    logged = predictions(folder).set_index("id").loc[answered["id"]]
    volatility = answered[["volatility_1d", "volatility_5d", "volatility_21d"]].to_numpy(float)
    quantiles = answered[[c for c in answered if c.startswith("return_")]].to_numpy(float)
    np.testing.assert_allclose(volatility, np.sqrt(252 * logged[VARIANCES].to_numpy()), rtol=1e-4)
    np.testing.assert_allclose(quantiles, logged[QUANTILES].to_numpy(), rtol=1e-3, atol=1e-6)
    assert (answered["error"] == "").all()


def test_the_input_example_of_the_loaded_model_is_answered_as_in_the_run(trained, monkeypatch):
    folder, _ = trained
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder / 'mlruns' / 'mlflow.db'}")
    mlflow.set_tracking_uri(f"sqlite:///{folder / 'mlruns' / 'mlflow.db'}")
    model = mlflow.pyfunc.load_model("models:/stocks/1")
    answered = model.predict(model.input_example)
    assert answered["id"].tolist() == predictions(folder)["id"].tail(3).tolist()
    assert_equals_the_run(answered, folder)


def test_served_prices_get_the_forecasts_of_the_run_and_faults_one_sentence(trained):
    folder, table = trained
    days = predictions(folder)["id"].str.split().str[1].unique()
    wanted = table["date"].isin(pd.to_datetime(days[-20:]))
    with served(folder, "stocks") as address:
        answered = answers(address, table.assign(score=wanted))
        assert len(answered) == 60
        assert_equals_the_run(answered, folder)
        fault = asked(address, table.tail(100).drop(columns="high"))
        assert fault.status_code == 400
        assert "high" in fault.json()["message"]
        last = answers(address, table).set_index("id")
        assert_malformed_requests_get_a_sentence(address)
    written = predicted(folder, "stocks", "--data", "prices.csv")
    assert len(written) == 3
    pd.testing.assert_frame_equal(last, written[list(last)], check_dtype=False, rtol=1e-5, atol=1e-8)


def test_days_after_the_history_are_predicted_as_in_the_run(trained):
    folder, table = trained
    days = predictions(folder)["id"].str.split().str[1].unique()[-20:]
    recent = table["date"] >= pd.to_datetime(days[0])
    table[~recent].to_csv(folder / "history.csv", index=False)
    table[recent].to_csv(folder / "recent.csv", index=False)
    written = predicted(folder, "stocks", "--data", "recent.csv", "--history", "history.csv").reset_index()
    assert len(written) == recent.sum()
    assert_equals_the_run(written[written["id"].str.split().str[1].isin(days)], folder)
