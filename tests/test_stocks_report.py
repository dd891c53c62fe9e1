"""Evaluation of forecasts: tests, scores of quantiles, calibration, the trading check, the verdict."""

from dataclasses import replace
from types import SimpleNamespace

import keras
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from scipy.stats import norm
from statsmodels.api import OLS
from test_stocks_baselines import autoregressive, facts_of, parsed, prices

from pipelines.core.data.arrays import Part
from pipelines.core.data.dataset import Dataset
from pipelines.core.evaluation.bootstrap import blocks
from pipelines.core.evaluation.promises import Promise
from pipelines.core.review import gates, promotion
from pipelines.core.tasks import forecasting
from pipelines.core.training import device
from pipelines.core.training.batches import predict
from pipelines.core.training.scoring import score_baseline
from pipelines.core.training.trial import Outcome, trial
from pipelines.stocks import PIPELINE, Settings, data, report, trading
from pipelines.stocks.model import LEVELS
from pipelines.stocks.task import TASK, qlike
from tests.builders import contents, without_words

SETTINGS = Settings(window=10, epochs=3, batch_size=256, learning_rate=1e-3, examples="full")


def outcome_of(whole: Dataset, settings: Settings = SETTINGS) -> Outcome:
    splits = data.split(whole, settings)
    return trial(PIPELINE, whole, splits, settings, device.setup(settings.seed, "cpu", "float32", 1), resamplings=100)


def with_scores(outcome: Outcome, **scores: np.ndarray) -> Outcome:
    """The outcome with other scores on test of the models that are named."""
    part = outcome.parts["test"]
    other = {name: score_baseline(lambda _, values=values: values, part, TASK) for name, values in scores.items()}
    return replace(outcome, models={**outcome.models, **other})


@pytest.fixture(scope="module")
def planted():
    """A trial on simulated tickers whose volatility can be forecast."""
    return outcome_of(parsed(prices(autoregressive(4, 1_600, 0), 0)))


# -------------------------------------------------------------------------------------------------- tests of forecasts


@pytest.mark.parametrize(("horizon", "lag"), [(1, 5), (5, 9), (21, 25)])
def test_diebold_mariano_equals_the_mean_with_a_newey_west_error(horizon, lag):
    rng = np.random.default_rng(0)
    differences = np.convolve(rng.normal(-0.1, 1, 520), np.ones(21) / 21, "valid")
    fitted = OLS(differences, np.ones(500)).fit(cov_type="HAC", cov_kwds={"maxlags": lag, "use_correction": False})
    found = forecasting.diebold_mariano(differences, horizon)
    assert found.mean == pytest.approx(differences.mean())
    assert found.error == pytest.approx(fitted.bse[0])
    assert found.statistic == pytest.approx(fitted.tvalues[0])


def test_diebold_mariano_by_hand_on_some_periods():
    """Four periods, of which two count, a lag of 1 - 1 + int(4 (4 / 100)^(2/9)) = 1."""
    found = forecasting.diebold_mariano(np.array([1.0, 5.0, 9.0, 3.0]), 1, np.array([True, False, False, True]))
    assert found.mean == 2.0
    assert found.error == pytest.approx(np.sqrt(0.5**2 + 0.5**2))  # -1/2 and 1/2 are no neighbours
    both = forecasting.diebold_mariano(np.array([1.0, 3.0, 9.0, 9.0]), 1, np.array([True, True, False, False]))
    assert both.error == pytest.approx(np.sqrt(0.5 - 2 * 0.5 * 0.25))


def test_diebold_mariano_is_rarely_wrong_where_forecasts_are_alike():
    rng = np.random.default_rng(1)
    p = [forecasting.diebold_mariano(rng.normal(size=1000), 1).p for _ in range(1000)]
    assert 0.002 < np.mean(np.array(p) < 0.01) < 0.02
    assert forecasting.diebold_mariano(rng.normal(-0.2, 1, 1000), 1).p < 0.01
    assert forecasting.diebold_mariano(np.zeros(100), 1).p == pytest.approx(0.5)


def test_pinball_and_crps_by_hand():
    found = forecasting.pinball(np.array([1.0, 1.0]), np.array([[0.0, 3.0], [2.0, 2.0]]), (0.1, 0.9))
    np.testing.assert_allclose(found, [[0.1, 0.2], [0.9, 0.1]])
    levels = (np.arange(2_000) + 0.5) / 2_000
    crps = forecasting.crps(np.array([0.7]), norm.ppf(levels)[None], levels)
    exact = 0.7 * (2 * norm.cdf(0.7) - 1) + 2 * norm.pdf(0.7) - 1 / np.sqrt(np.pi)  # Gneiting and Raftery 2007
    assert crps[0] == pytest.approx(exact, abs=1e-4)
    point = forecasting.crps(np.array([3.0]), np.full((1, 7), 1.0), LEVELS)
    assert point[0] == pytest.approx(2.0, abs=0.02)  # of a certain forecast the absolute error


def test_coverage_and_the_probability_integral_transform_of_the_truth():
    values = np.random.default_rng(2).normal(size=20_000)
    quantiles = np.tile(norm.ppf(LEVELS), (20_000, 1))
    for coverage in (0.8, 0.95):
        assert forecasting.inside(values, quantiles, LEVELS, coverage).mean() == pytest.approx(coverage, abs=0.01)
    assert forecasting.transform(values, quantiles, LEVELS) == pytest.approx(1, abs=0.1)
    assert forecasting.transform(values, quantiles / 2, LEVELS)[0] > 3


# ------------------------------------------------------------------------------------------ scores and calibration


def outputs_of(log_variance: np.ndarray, quantiles: np.ndarray) -> np.ndarray:
    """Network outputs, from (n, 3) and (n, 3, 7)."""
    return np.concatenate([log_variance, quantiles.reshape(len(quantiles), -1)], axis=1).astype(np.float32)


def test_scores_are_variances_and_quantiles_widened_about_the_median():
    quantiles = np.broadcast_to(np.arange(7.0), (2, 3, 7))
    outputs = outputs_of(np.full((2, 3), np.log(4.0)), quantiles)
    facts = facts_of(excess=(0.0, np.log(2), np.log(3)))
    assert TASK.scores(outputs, facts)[0, :3] == pytest.approx([4, 8, 12])
    assert TASK.scores(outputs, facts)[0, 3:10] == pytest.approx(np.arange(7))
    widened = TASK.scores(outputs, replace(facts, widening=((2, 1, 1, 1, 1, 1, 2),) * 3))[0, 3:10]
    assert widened == pytest.approx([-3, 1, 2, 3, 4, 5, 9])


@pytest.mark.parametrize(("true", "expected"), [(2.0, 2.0), (0.5, 1.0)])
def test_intervals_that_are_too_narrow_are_widened_and_none_is_narrowed(true, expected):
    rng = np.random.default_rng(3)
    quantiles = np.tile(norm.ppf(LEVELS), (40_000, 3, 1))
    outputs = outputs_of(np.zeros((40_000, 3)), quantiles)
    part = SimpleNamespace(labels=np.concatenate([np.ones((40_000, 3)), true * rng.normal(size=(40_000, 3))], axis=1))
    facts = TASK.calibrate(lambda _: outputs, part, SETTINGS, facts_of())
    assert np.array(facts.widening)[:, [0, 1, 5, 6]] == pytest.approx(expected, rel=0.08)
    fresh = true * rng.normal(size=(40_000, 3))
    widened = TASK.scores(outputs, facts)[:, 3:].reshape(-1, 3, 7)
    assert (np.diff(widened, axis=-1) > 0).all()
    for coverage in (0.8, 0.95):
        observed = forecasting.inside(fresh, widened, LEVELS, coverage).mean(axis=0)
        assert (observed > coverage - 0.02).all()
        if true > 1:
            assert (observed < coverage + 0.02).all()


def test_the_headline_is_the_pooled_ratio_of_qlike_to_har(planted):
    part, name = planted.headline, "qlike_ratio_har_5d"
    metric = TASK.metrics(planted.facts)[name]
    variance = part.labels[:, 1]
    loss = {m: qlike(variance, planted.baselines[m][:, 1]) for m in ("har", "ewma")}
    weights = np.random.default_rng(0).integers(0, 3, len(part)).astype(float)
    expected = (weights @ loss["ewma"]) / (weights @ loss["har"])
    assert metric(planted.models["ewma"].measures)(weights) == pytest.approx(expected)
    assert metric(planted.models["har"].measures)(weights) == pytest.approx(1)
    assert planted.resampled.values["har", name] == pytest.approx(1)


def test_measures_of_a_row_depend_on_that_row_alone(planted):
    part = planted.parts["test"]
    rows = np.array([7, 300, 2])
    some = TASK.measures(planted.scores[rows], part.take(rows))
    for name, values in planted.models["network"].measures.items():
        np.testing.assert_array_equal(some[name], values[rows], name)


# ------------------------------------------------------------------------------------------------- verdict and report


def test_a_planted_volatility_is_forecast_better_than_by_the_mean(planted):
    behind = report.deficit(planted, "constant", gates.SHOWN)
    assert behind.high < 0
    panel = report.losses(planted)
    tested = panel.test("network", "constant", 0)
    assert tested.p < 0.01
    assert behind.value == pytest.approx(tested.mean / panel.mean("har", 0))
    judged = gates.gates(planted)
    assert judged[0].deficit == behind
    assert judged[0].state == "passed"
    assert "Nothing could be forecast" not in " ".join(report.remarks(planted))
    assert "not advice" in " ".join(report.remarks(planted))


def test_the_report_yields_numbers_tables_and_figures(planted):
    items = list(report.report(planted))
    names = [item.name for item in items]
    assert len(set(names)) == len(names)
    items = contents(items)
    numbers = {name: value for name, value in items.items() if isinstance(value, float)}
    assert {"coverage_80_1d", "coverage_95_5d", "crps_skill_21d", "pinball_1d"} <= set(numbers)
    assert np.isfinite(list(numbers.values())).all()
    assert {type(value) for name, value in items.items() if name not in numbers} == {pd.DataFrame, Figure, Promise}
    against = items["loss relative to the baselines"]
    assert set(against["against"]) == {"constant", "har", "har_market", "har_pooled", "garch", "trees"}
    assert (against.filter(like="%").min(axis=1) <= against["all days, %"]).all()
    assert (against["all days, %"] <= against.filter(like="%").max(axis=1)).all()


def test_every_item_says_what_it_is_and_how_to_read_it(planted):
    assert without_words(report.report(planted)) == []


def test_the_verdict_begins_with_how_much_better_than_har(planted):
    numbers, said = contents(report.report(planted)), report.remarks(planted)[0]
    ratio = planted.resampled.interval("network", "qlike_ratio_har_1d")
    by = f"{100 * abs(1 - ratio.value):.0f} % {'better' if ratio.value < 1 else 'worse'}"
    span = f"({100 * (1 - ratio.high):.0f} to {100 * (1 - ratio.low):.0f})".replace("-", "−")
    assert said.startswith(f"Against HAR, volatility is forecast {by} over 1 day {span}")
    inside = ", ".join(f"{100 * numbers[f'coverage_80_{h}d']:.0f}" for h in (1, 5, 21))
    assert f"{inside} % fell into the 80 % intervals" in said


def test_gates_name_the_level_of_their_intervals(planted):
    shown, other = gates.gates(planted)
    assert f"] at {100 * gates.SHOWN:.4g} %" in str(shown)
    assert "] at 98 %" in str(other)
    assert [lead.level for lead in gates.frame([shown, other])["network ahead by"]] == [gates.SHOWN, 0.98]
    assert "at" not in str(planted.resampled.interval("network", "qlike_ratio_har_1d"))


def test_decisions_of_a_request_equal_those_of_the_run(planted):
    """From the rows of a history alone, the forecasts of its last day."""
    test = planted.parts["test"]
    time = test.frame["time"].iloc[300]
    history = data.example(test.data.take(test.records["time"] <= time), planted.facts)
    request = data.parse(history.sample(frac=1, random_state=0), planted.facts)
    rows = np.flatnonzero(request.records["score"])
    assert len(rows) == 4
    part = Part(request, rows, data.encode(request, planted.facts))
    served = TASK.decide(predict(planted.network, part), planted.facts, part)
    here = (test.frame["time"] == time).to_numpy()
    own = TASK.decide(planted.outputs[here], planted.facts, test.take(here))
    assert (served["error"] == "").all()
    pd.testing.assert_frame_equal(served, own, rtol=1e-4)
    quantiles = served[[c for c in served if c.startswith("return_5d")]].to_numpy()
    assert quantiles.shape == (4, 7)
    assert (np.diff(quantiles) > 0).all()


def test_a_day_with_too_short_a_history_gets_an_error_in_place_of_a_forecast(planted):
    request = data.parse(prices(autoregressive(1, 10, 0), 0), planted.facts)
    part = Part(request, np.array([9]), data.encode(request, planted.facts))
    decided = TASK.decide(predict(planted.network, part), planted.facts, part)
    assert decided["error"].iloc[0].startswith("fewer than 22 days")
    assert decided.drop(columns="error").isna().all(axis=None)


# ---------------------------------------------------------------------------------------------------- trading check


def test_a_path_by_hand_with_costs():
    prices = np.array([[10.0, 10.0], [20.0, 10.0], [20.0, 5.0]])
    wanted = np.array([[0.5, 0.25], [np.nan, np.nan], [0.0, 0.0]])
    free = trading.simulate(prices, wanted, 0.0)
    assert free.wealth == pytest.approx([1, 1.5, 1.375])
    assert free.traded == pytest.approx([0.75, 0, 1.125 / 1.375])
    path = trading.simulate(prices, wanted, 0.01)
    left = 1 / (1 + 0.01 * 0.75)  # of which three quarters are bought, at a cent a unit
    assert path.wealth == pytest.approx([1, 1.5 * left, 1.375 * left])
    assert trading.figures_of(path)["drawdown, %"] == pytest.approx(100 * (1 - 1.375 / 1.5))


def test_costs_of_the_last_trade_lower_the_next_day():
    path = trading.simulate(np.ones((3, 1)), np.array([[1.0], [0.0], [0.0]]), 0.1)
    assert path.wealth[1] == pytest.approx(1 / 1.1, abs=1e-4)
    assert path.wealth[2] == pytest.approx(0.9 / 1.1, abs=1e-4)


def test_forecasts_are_traded_at_the_next_open_and_later_days_change_nothing_before(planted):
    prices, wanted = trading.holdings(planted)
    days = np.unique(planted.parts["test"].frame["time"])
    assert prices.index[0] > days[0]
    assert (prices.index[:-1] == days[1:]).all()
    record = planted.parts["test"].records.set_index(["time", "ticker"])
    assert prices.loc[days[5], "T1"] == pytest.approx(record.loc[(days[5], "T1"), "open"], rel=1e-6)
    assert all((np.nan_to_num(shares).sum(axis=1) <= 1 + 1e-9).all() for shares in wanted.values())

    frame, scores = planted.parts["test"].frame, planted.scores.copy()
    scores[(frame["time"] >= days[50]).to_numpy(), 0] *= 4
    _, other = trading.holdings(with_scores(planted, network=scores))
    assert np.array_equal(other["network"][:50], wanted["network"][:50])
    assert (other["network"][50] < wanted["network"][50]).any()  # row 50 is the day after days[50]
    paths = [trading.simulate(prices.to_numpy(), shares["network"], 0.0005).wealth for shares in (wanted, other)]
    assert np.array_equal(paths[0][:50], paths[1][:50])
    assert paths[0][51] != paths[1][51]


def test_sharpe_ratios_and_their_intervals():
    rng = np.random.default_rng(4)
    returns = pd.DataFrame({trading.EQUAL: rng.normal(0.001, 0.01, 2_000)})
    returns["better"] = returns[trading.EQUAL] + 0.001
    value = trading.sharpe(returns.to_numpy())
    assert value[0] == pytest.approx(returns[trading.EQUAL].mean() / returns[trading.EQUAL].std(ddof=0) * np.sqrt(252))
    table = trading.sharpe_intervals(returns)
    assert [ratio.value for ratio in table["Sharpe ratio"]] == pytest.approx(value)
    assert all(ratio.low < ratio.value < ratio.high for ratio in table["Sharpe ratio"])
    assert table.loc["better", "over equal weight"].low > 0
    assert table.loc[trading.EQUAL, "over equal weight"].high == 0


# -------------------------------------------------------------------------------------------------------- random walk


@pytest.mark.slow
def test_random_walks_are_refused_and_the_verdict_says_that_nothing_could_be_forecast():
    """As `--data random-walk` decides, without the record, and after fewer epochs: there is nothing to be learnt."""
    refused, flat = 0, 0
    for seed in range(20):
        keras.utils.clear_session()
        settings = Settings(data="random-walk", seed=seed, epochs=4)
        outcome = outcome_of(data.read(None, settings), settings)
        refused += promotion.decide(outcome, None, None).kind == "refused"
        flat += "Nothing could be forecast" in report.remarks(outcome)[0]
    assert refused >= 19
    assert flat >= 19


def test_where_the_mean_is_not_beaten_the_verdict_says_so_and_promotion_is_refused(planted):
    """A network that forecasts the mean is undecided against it, which is not enough."""
    mean = planted.baselines["constant"]
    alone = with_scores(planted, network=np.column_stack([mean, planted.scores[:, 3:]]))
    same = with_scores(alone, **dict.fromkeys(planted.baselines, mean))
    decision = promotion.decide(same, None, None)
    assert [gate.deficit.value for gate in decision.gates] == [0, 0]
    assert decision.gates[0].state == "failed"
    assert decision.kind == "refused"
    assert report.remarks(same)[0].startswith("**Nothing could be forecast:**")
    assert report.remarks(alone)[0].startswith("**Nothing could be forecast by the network:**")


def test_blocks_are_what_intervals_resample(planted):
    assert planted.splits.clusters == ("block",)
    assert blocks(planted.headline.frame["time"], 21).max() < len(planted.headline) / 21
