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
from pipelines.core.report import captions, class_figures, figures, media_figures, names
from pipelines.core.report.html import MOST_ROWS, Section, Sound, render
from pipelines.core.report.items import Item
from pipelines.core.report.names import minus
from pipelines.core.report.numbers import all_figures
from pipelines.core.report.sections import LARGE, LONG, sections

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


def test_narrow_figures_stand_in_pairs_and_one_alone_beside_its_caption():
    narrow, wide = ([Figure(figsize=(width, 2))] for width in (4.4, 9))

    def classes(*contents):
        html = render("title", "verdict", [Section("heading", items, caption="look here") for items in contents])
        return [a.get("class") for tag, a in Tags(html).found if tag == "section"]

    assert classes(narrow, narrow) == ["half", "half"]
    assert classes(narrow, wide, narrow, narrow, narrow) == ["lone", None, "half", "half", "lone"]
    assert classes(wide) == classes([*narrow, *narrow]) == classes(["text"]) == [None]


def test_a_caption_stands_below_a_figure_and_above_a_table_and_in_place_of_a_figure_not_seen():
    figure = page_with(Figure(figsize=(4, 2)), caption="how to read it")
    table = page_with(pd.DataFrame({"n": [1]}), caption="how to read it")
    assert figure.rindex("how to read it") > figure.index("<img")
    assert table.index("how to read it") < table.index("<table")
    (image,) = [a for tag, a in Tags(figure).found if tag == "img"]
    assert image["alt"] == "heading. how to read it"


def test_sounds_are_played_from_the_page_and_only_then_allowed():
    def policy(html):
        return next(a["content"] for _, a in Tags(html).found if a.get("http-equiv") == "Content-Security-Policy")

    html = page_with(Sound(b"RIFF", f"yes {EVIL}"))
    (audio,) = [a for tag, a in Tags(html).found if tag == "audio"]
    assert base64.b64decode(audio["src"].removeprefix("data:audio/wav;base64,")) == b"RIFF"
    assert "autoplay" not in audio
    assert "media-src data:" in policy(html)
    assert "media-src" not in policy(page_with(Figure(figsize=(1, 1))))


def test_a_table_may_have_columns_of_any_name():
    assert cells(page_with(pd.DataFrame({"savefig": [1], "wav": ["x"], "caption": ["y"]}))) == ["1", "x", "y"]


def test_the_page_shows_figures_tables_and_sounds_and_leaves_files_and_numbers_out():
    table = pd.DataFrame({"n": range(3)})
    items = [
        Item("roc curve", Figure(figsize=(4, 2)), "a caption"),
        Item("repeats", table, "as the figure", shown=False),
        Item("long_table", pd.DataFrame({"n": range(LONG + 1)})),
        Item("auc", np.float64(0.5)),
        Item("network.tflite", b"TFL3"),
        Item("sounds/1.wav", b"RIFF", "first"),
        Item("sounds/2.wav", b"RIFF", "second"),
        Item("sounds/3.wav", bytes(LARGE), "too large"),
    ]
    page = sections(items)
    assert [one.title for one in page] == ["ROC curve", "Long table", "Sounds of the worst mistakes"]
    assert [one.folded for one in page] == [False, True, False]
    assert page[0].caption == "a caption"
    assert [sound.caption for sound in page[2].items] == ["first", "second"]
    assert sections([Item("sounds/1.wav", b"RIFF", shown=False)]) == []


def test_every_number_of_a_run_is_in_the_table_of_all_figures():
    values = {
        "cost/parameters": 123456.0,
        "baseline/boosted_trees/roc_auc": 0.8,
        "test/roc_auc": 0.912345,
        "test/roc_auc_low": 0.88,
        "test/roc_auc_high": 0.94,
        "test/crps_skill_1d": -0.0123,
        "test/errors": 3.0,
        "test/share_low": 0.25,
    }
    table = all_figures(values, {"roc_auc": "how well positives are ranked above the others"})
    assert cells(page_with(table)) == [
        "ROC AUC", "how well positives are ranked above the others", "0.9123", "0.880\u00a0to\u00a00.940",
        "CRPS skill 1 day", "", "−0.0123", "",
        "errors", "", "3", "",
        "share low", "", "0.25", "",
        "ROC AUC, boosted trees", "how well positives are ranked above the others", "0.8", "",
        "parameters, cost", "", "123,456", "",
    ]  # fmt: skip


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


def test_ids_are_names_even_if_they_are_numbers():
    assert cells(page_with(pd.DataFrame({"id": [196707], "count": [196707]}))) == ["196707", "196,707"]


def test_numbers_stand_right_and_words_left():
    html = page_with(pd.DataFrame({"name": ["a"], "count": [3], "figure": [Interval(0.5, 0.4, 0.6)]}))
    assert "<td>a</td>" in html.replace("\n", "")
    assert '<td class="number">0.50 [0.40, 0.60]</td>' in html.replace("\n", "")
    assert '<td class="number">3</td>' in html.replace("\n", "")


def test_a_named_index_is_shown_and_row_numbers_are_not():
    assert cells(page_with(pd.DataFrame({"n": [7]}, index=pd.Index(["night"], name="part")))) == ["night", "7"]
    assert cells(page_with(pd.DataFrame({"n": [7]}))) == ["7"]


def test_columns_of_results_are_marked_and_classes_of_that_name_are_not():
    html = page_with(pd.DataFrame({"check": ["passed", "failed", "undecided", "kept", "broken"]}))
    assert re.findall(r'<mark class="(\w+)">(\w+)</mark>', html) == [
        ("good", "passed"), ("bad", "failed"), ("open", "undecided"), ("good", "kept"), ("bad", "broken"),
    ]  # fmt: skip
    assert "<mark" not in page_with(pd.DataFrame({"class": ["broken", "intact"]}))
    assert "<mark" not in page_with(pd.DataFrame({"check": []}))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("-0.007 [-0.020, 0.005]", "−0.007 [−0.020, 0.005]"),
        ("by -.5 to 3", "by −.5 to 3"),
        ("2024-03-01 10-12 card-7 --epochs -x a.-3", "2024-03-01 10-12 card-7 --epochs -x a.-3"),
    ],
)
def test_one_minus_sign(text, expected):
    assert minus(text) == expected
    assert f"<p>{expected}" in render("title", text, [])


def test_what_is_to_be_typed_keeps_its_hyphens_and_tables_and_figures_have_minus_signs():
    html = render("by -1", "Lead -1, type `make x ARGS=-2`, lead -3.", [])
    assert "<title>by −1</title>" in html
    assert "Lead −1, type <code>make x ARGS=-2</code>, lead −3." in html
    assert cells(page_with(pd.DataFrame({"lead": [Interval(-0.5, -0.6, -0.4)]}))) == ["−0.50 [−0.60, −0.40]"]
    intervals = {name: Interval(-0.5, -0.6, -0.4) for name in ("network", "trees")}
    assert words(figures.headline_bars(intervals, "skill")).count("−0.50 [−0.60, −0.40]") == 2


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("roc_auc", "ROC AUC"),
        ("qlike_ratio_har_5d", "QLIKE ratio HAR 5 days"),
        ("coverage_80_1d", "coverage 80 1 day"),
    ],
)
def test_names_of_metrics_in_words(name, expected):
    assert names.words(name) == expected


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


def spans(figure):
    """(least, most) x of each interval that is drawn as a line."""
    lines = [line.get_xdata() for line in figure.axes[0].lines]
    return sorted((min(x), max(x)) for x in lines if len(x) == 2 and x[0] != x[1])


def test_one_very_bad_model_does_not_squeeze_the_others():
    good = {"network": Interval(0.95, 0.94, 0.96), "trees": Interval(0.93, 0.92, 0.94)}
    bad = {"mean": Interval(0.10, 0.09, 0.11), "worse": Interval(-3.0, -3.5, -2.5)}
    figure = figures.headline_bars(good | bad, "accuracy")
    low, high = figure.axes[0].get_xlim()
    assert low <= 0.92 < 0.96 <= high, "the others are there in whole"
    assert high - low < 0.1, "and can be told apart"
    assert [line.get_marker() for line in figure.axes[0].lines].count("<") == 2
    assert {"mean", "worse", "0.100 [0.090, 0.110]", "−3.0 [−3.5, −2.5]"} <= set(words(figure)), "numbers stay"
    assert any("off the axis" in text for text in words(figure))
    lower = figures.headline_bars(good | {"mean": Interval(9.0, 8.0, 10.0)}, "loss", higher=False)
    assert [line.get_marker() for line in lower.axes[0].lines].count(">") == 1


def test_models_of_usual_distances_are_all_on_the_axis():
    """As on the demo of fraud: a wide interval, and baselines down to the share of frauds."""
    values = {"network": (0.686, 0.626, 0.741), "trees": (0.678, 0.61, 0.73), "regression": (0.60, 0.52, 0.66),
              "rule": (0.04, 0.03, 0.05), "prevalence": (0.011, 0.01, 0.012)}  # fmt: skip
    figure = figures.headline_bars({name: Interval(*value) for name, value in values.items()}, "average precision")
    assert spans(figure) == sorted((low, high) for _, low, high in values.values())
    assert not any("off the axis" in text for text in words(figure))
    alone = figures.headline_bars({"version 3": Interval(0.5, 0.4, 0.6)}, "accuracy")
    same = figures.headline_bars({name: Interval(1.0, 1.0, 1.0) for name in ("network", "trees")}, "accuracy")
    assert drawn(alone)
    assert drawn(same)


def test_curves_that_coincide_can_all_be_seen():
    labels, scores = ranked()
    same = dict.fromkeys(["network", "trees", "forest", "regression"], scores["network"])
    for draw in (class_figures.pr_curve, class_figures.roc_curve):
        lines = {
            line.get_label().split()[0]: line
            for line in draw(labels, same, np.ones(500)).axes[0].lines
            if not line.get_label().startswith("_")
        }
        order = sorted((lines[name] for name in same), key=lambda line: line.get_zorder())
        assert order[0] is lines["network"], "the widest lies below"
        assert order[0].get_linewidth() > 2 * max(line.get_linewidth() for line in order[1:])
        assert len({(line.get_zorder(), str(line._unscaled_dash_pattern)) for line in order}) == 4
        assert order[1]._unscaled_dash_pattern[1] is None, "only the lowest of the thin ones is without gaps"
        assert all(line._unscaled_dash_pattern[1] for line in order[2:])


def test_the_threshold_in_use_is_marked_on_the_curves():
    labels, scores = ranked()
    alert, ones = scores["network"] >= 0.5, np.ones(500)
    places = {
        class_figures.pr_curve: (alert[labels == 1].mean(), labels[alert].mean()),
        class_figures.roc_curve: (alert[labels == 0].mean(), alert[labels == 1].mean()),
    }
    for draw, place in places.items():
        rings = [
            line for line in draw(labels, scores, ones, 0.5).axes[0].lines if line.get_label() == "threshold in use"
        ]
        assert [(ring.get_xdata()[0], ring.get_ydata()[0]) for ring in rings] == [pytest.approx(place)]
        assert "threshold in use" not in words(draw(labels, scores, ones))
    assert drawn(class_figures.pr_curve(labels, scores, ones, threshold=2.0)), "no alert has no precision"


def test_one_epoch_gives_dots():
    figure = figures.learning_curves([{"loss": 0.5, "val_loss": 0.4}], 1)
    lines = {line.get_label(): line for line in figure.axes[0].lines}
    assert lines["training"].get_marker() == lines["validation"].get_marker() == "o"
    assert "one epoch" in captions.learning_curves(1)
    assert "one epoch" not in captions.learning_curves(2)


def test_names_that_no_font_can_draw_are_numbered_and_explained_on_the_page(monkeypatch):
    monkeypatch.setattr(names, "_has_glyph", lambda letter: ord(letter) < 0x3000)  # as with DejaVu Sans alone
    classes = ["東京 都市", "ab-京都-1", "東京 都市", "plain"]
    figure = class_figures.confusion(np.eye(4), classes)
    shown = [text.get_text() for text in figure.axes[0].get_xticklabels()]
    assert shown == ["#1", "ab-#2-1", "#1", "plain"]
    assert figure.key == {"#1": "東京 都市", "#2": "京都"}
    html = page_with(figure)
    assert "#1 <bdi>東京 都市</bdi>, #2 <bdi>京都</bdi>." in html
    assert class_figures.confusion(np.eye(2), ["a", "b"]).key == {}, "a figure knows its names alone"


@pytest.mark.parametrize("name", ["مرحبا", "日本", "हिन्दी", "ไทย", "Ελλάδα", "Українська", "🙂", "ok\n2", "a ≤ b"])
def test_no_figure_has_blank_boxes(name, recwarn):
    assert drawn(class_figures.confusion(np.eye(2), [name, "other"]))
    figure = media_figures.pictures({name: [(np.zeros((4, 4)), np.ones((4, 4)), f"{name} $1")]}, f"{name} $1")
    figure.savefig(io.BytesIO())
    assert not [one for one in recwarn if "missing from" in str(one.message)]


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
