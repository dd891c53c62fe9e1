"""The report page and its figures: safe with any text, self-contained, and telling what they were given."""

from __future__ import annotations

import base64
import io
import re
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from pipelines.core.evaluation.bootstrap import Interval
from pipelines.core.evaluation.metrics import average_precision
from pipelines.core.report import class_figures, figures
from pipelines.core.report.html import MOST_ROWS, Section, render

EVIL = "<script src='http://evil.example/x.js'>alert(1)</script> & \"quoted\""


def page_with(content, **section):
    return render("title", "verdict", [Section("heading", [content], **section)])


def cells(html):
    return [re.sub(r"<[^>]+>", "", cell) for cell in re.findall(r"<td[^>]*>(.*?)</td>", html, re.DOTALL)]


class Tags(HTMLParser):
    """The tags of a page with their attributes, and whether every tag that opens also closes."""

    VOID = ("meta", "img")

    def __init__(self, html):
        super().__init__()
        self.found, self.open = [], []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def drawn(figure):
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg")
    return buffer.getvalue().decode()


def words(figure):
    """Every text of a figure, as it is shown."""
    figure.draw_without_rendering()
    return [
        text.get_text().replace(r"\$", "$") for text in figure.findobj(match=lambda item: hasattr(item, "get_text"))
    ]


def ranked(seed=0, n=500):
    rng = np.random.default_rng(seed)
    labels = (rng.random(n) < 0.2).astype(int)
    names = {"network": 2.0, "champion (version 3)": 1.5, "amount in $ or €_2$": 0.5}
    return labels, {name: 1 / (1 + np.exp(2 - s * labels - rng.normal(size=n))) for name, s in names.items()}


# --------------------------------------------------------------------------------------------------------------- page


def test_text_from_users_data_is_escaped_wherever_it_stands():
    frame = pd.DataFrame({EVIL: [EVIL]}, index=pd.Index([EVIL], name=EVIL))
    items = [EVIL, frame, Figure(figsize=(1, 1))]
    html = render(EVIL, f"{EVIL}\n\n{EVIL}", [Section(EVIL, items), Section(EVIL, items, folded=True)])
    tags = Tags(html)
    assert "script" not in [tag for tag, _ in tags.found]
    assert not [name for _, attributes in tags.found for name in attributes if name.startswith("on")]
    assert tags.open == []
    assert html.count("&lt;script src=") > 10


def test_the_page_fetches_and_executes_nothing():
    html = page_with(Figure(figsize=(1, 1)))
    tags = Tags(html).found
    addresses = [a[key] for _, a in tags for key in ("src", "href", "srcset", "data", "action") if key in a]
    assert addresses
    assert all(address.startswith("data:image/png;base64,") for address in addresses)
    assert not {"script", "link", "iframe", "object", "base", "form"} & {tag for tag, _ in tags}
    style = html[html.index("<style>") : html.index("</style>")]
    assert "url(" not in style
    assert "@import" not in style
    policy = next(a["content"] for tag, a in tags if a.get("http-equiv") == "Content-Security-Policy")
    assert "default-src 'none'" in policy


def test_the_verdict_comes_first_and_sections_keep_their_order():
    sections = [Section(name, [f"{name} said"]) for name in ("gates", "figures", "settings")]
    html = render("a title", "Promoted.\n\nBecause it is better.", sections)
    places = [html.index(text) for text in (">Promoted.", "Because it", "gates said", "figures said", "settings said")]
    assert places == sorted(places)


def test_the_verdict_is_markdown_without_links_or_html():
    verdict = (
        "**Refused.** [a](http://evil.example) <b>x</b> <http://evil.example> ![i](http://e)\n\n| a |\n|---|\n| 1 |"
    )
    html = render("title", verdict, [])
    assert "<strong>Refused.</strong>" in html
    assert cells(html) == ["1"]
    assert not {"a", "b", "img"} & {tag for tag, _ in Tags(html).found}


def test_narrow_figures_in_sections_of_their_own_share_a_row():
    def classes(*items):
        html = render("title", "verdict", [Section("heading", list(items))])
        return [a.get("class") for tag, a in Tags(html).found if tag == "section"]

    narrow, wide = (Figure(figsize=(width, 2)) for width in (4.4, 9))
    assert classes(narrow) == ["half"]
    assert classes(wide) == classes(narrow, narrow) == classes("text") == [None]


def test_the_same_content_gives_the_same_bytes():
    labels, scores = ranked()
    first, second = (page_with(class_figures.pr_curve(labels, scores, np.ones(500))) for _ in range(2))
    assert first == second


def test_figures_are_embedded_at_two_pixels_a_point():
    html = page_with(Figure(figsize=(4.4, 3)))
    assert 'width="440"' in html
    # The width stands in bytes 16 to 20 of a PNG.
    png = base64.b64decode(re.search(r"base64,([^\"]+)", html)[1])
    assert int.from_bytes(png[16:20], "big") == 880


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([12345, 1], ["12,345", "1"]),
        ([0.7312, 0.05], ["0.731", "0.050"]),
        ([12.34, -0.5], ["12.3", "−0.5"]),
        ([0.02, 0.0], ["0.02", "0.00"]),
        ([0.000213, np.nan], ["0.000213", "–"]),
        ([1234.5, 8.1], ["1,234", "8"]),
        ([3.0, np.nan], ["3", "–"]),
        ([True, False], ["yes", "no"]),
        ([Interval(0.7314, 0.7051, 0.7563), None], ["0.731 [0.705, 0.756]", "–"]),
        (["a", ("x", "y")], ["a", "x, y"]),
        ([1e-3, "auto"], ["0.001", "auto"]),
        (pd.to_datetime(["2020-01-02", "2020-01-03"]), ["2020-01-02", "2020-01-03"]),
        (pd.to_datetime(["2020-01-02 10:11:12.5", None]), ["2020-01-02 10:11:12", "–"]),
        (pd.array([1, None], dtype="Int64"), ["1", "–"]),
        (pd.Series(["x", None], dtype="category"), ["x", "–"]),
    ],
)
def test_cells_are_formatted_for_reading(values, expected):
    assert cells(page_with(pd.DataFrame({"column": values}))) == expected


def test_numbers_stand_right_and_words_left():
    html = page_with(pd.DataFrame({"name": ["a"], "count": [3], "figure": [Interval(0.5, 0.4, 0.6)]}))
    assert "<td>a</td>" in html.replace("\n", "")
    assert '<td class="number">0.50 [0.40, 0.60]</td>' in html.replace("\n", "")
    assert '<td class="number">3</td>' in html.replace("\n", "")


def test_a_named_index_is_shown_and_row_numbers_are_not():
    assert cells(page_with(pd.DataFrame({"n": [7]}, index=pd.Index(["night"], name="part")))) == ["night", "7"]
    assert cells(page_with(pd.DataFrame({"n": [7]}))) == ["7"]


def test_gate_words_are_marked_and_classes_called_no_are_not():
    html = page_with(pd.DataFrame({"gate": ["passed", "failed", "undecided", "no"]}))
    assert re.findall(r'<mark class="(\w+)">(\w+)</mark>', html) == [
        ("good", "passed"), ("bad", "failed"), ("open", "undecided"),
    ]  # fmt: skip


def test_a_long_table_is_cut_and_says_so():
    html = page_with(pd.DataFrame({"n": range(MOST_ROWS + 42)}))
    assert len(cells(html)) == MOST_ROWS
    assert "42 more are left out" in html


# ------------------------------------------------------------------------------------------------------------ figures


def test_names_with_dollar_signs_are_shown_as_they_are():
    labels, scores = ranked()
    ones = np.ones(len(labels))
    intervals = {name: Interval(0.5, 0.4, 0.6) for name in scores}
    days = pd.DataFrame({name: [1.0, 2.0] for name in scores})
    for figure in (
        class_figures.pr_curve(labels, scores, ones),
        class_figures.roc_curve(labels, scores, ones),
        figures.headline_bars(intervals, "roc_auc"),
        figures.slices(intervals, 0.5, "roc_auc"),
        figures.lines(days, "title", "alerts"),
        figures.bars(days, "title", "alerts"),
        class_figures.confusion(np.eye(3), list(scores)),
    ):
        assert drawn(figure)
        assert any("amount in $" in text for text in words(figure))


def test_curves_are_labelled_with_the_metric_and_the_best_comes_first():
    labels, scores = ranked()
    ones = np.ones(len(labels))
    legend = class_figures.pr_curve(labels, scores, ones).axes[0].get_legend()
    shown = [text.get_text() for text in legend.get_texts()]
    assert [text.split()[0] for text in shown] == ["network", "champion", "amount", "chance"]
    assert shown[0].endswith(f"{average_precision(labels, scores['network'])(ones):.3f}")


@pytest.mark.parametrize(
    ("higher", "order"), [(True, ["network", "trees", "mean"]), (False, ["mean", "trees", "network"])]
)
def test_the_headline_puts_the_best_on_top_in_the_metrics_direction(higher, order):
    intervals = {"trees": Interval(0.6, 0.5, 0.7), "mean": Interval(0.1, 0.1, 0.1), "network": Interval(0.7, 0.6, 0.8)}
    shown = words(figures.headline_bars(intervals, "average_precision", higher))
    assert [text for text in shown if text in intervals] == order
    assert "0.70 [0.60, 0.80]" in shown


@pytest.mark.parametrize("kept", [2, 3])
def test_learning_curves_mark_the_epoch_whose_weights_are_kept(kept):
    epochs = [{"loss": 3 / e, "val_loss": v, "lr": 0.1} for e, v in enumerate([0.9, 0.5, 0.7], start=1)]
    figure = figures.learning_curves(epochs, kept)
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["loss"]
    assert f"kept: epoch {kept}" in words(figure)


def test_learning_curves_without_validation_show_the_loss():
    figure = figures.learning_curves([{"loss": 0.5}, {"loss": 0.4}], 2)
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["loss"]


@pytest.mark.parametrize("rate", [0.01, 0.4])
def test_reliability_shows_probabilities_of_any_size(rate):
    rng = np.random.default_rng(0)
    p = np.clip(rng.gamma(1, rate, 4000), 0, 1)
    labels = (rng.random(4000) < p).astype(int)
    figure = class_figures.reliability(labels, p**0.5, p, np.ones(4000))
    assert drawn(figure)
    assert figure.axes[0].get_xscale() == ("log" if rate < 0.1 else "linear")


def test_the_cost_figure_names_the_cheapest_and_the_chosen_threshold():
    curve = pd.DataFrame({"threshold": [0.9, 0.5, 0.1], "cost": [107.0, 17.0, 30.0], "alerts": [0, 1, 2]})
    shown = words(class_figures.cost_against_threshold(curve, chosen=0.1, unit="euros"))
    assert {"cheapest: 17", "in use: 30", "euros"} <= set(shown)


def test_the_confusion_figure_gives_counts_and_shares_of_the_true_class():
    shown = words(class_figures.confusion(np.array([[90, 10], [0, 1200]]), ["sick", "well"]))
    assert {"90\n90%", "10\n10%", "1,200\n100%"} <= set(shown)


def test_stacked_bars_reach_the_sum_of_their_columns():
    days = pd.date_range("2020-01-01", periods=3)
    figure = figures.bars(pd.DataFrame({"fraud": [1, 2, 3], "false": [4, 4, 4]}, index=days), "Alerts", "alerts")
    tops = [bar.get_y() + bar.get_height() for bar in figure.axes[0].patches]
    assert tops == [1, 2, 3, 5, 6, 7]
    assert drawn(figure)


def test_drawing_leaves_matplotlibs_own_settings_alone():
    from matplotlib import rcParams

    before = dict(rcParams)
    figures.lines(pd.DataFrame({"a": [1.0, 3.0]}), "title", "y")
    assert dict(rcParams) == before
