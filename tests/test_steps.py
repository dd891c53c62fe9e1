"""Steps on the terminal: their lines, and that nothing stays silent."""

import io
import re

import pytest
from rich.cells import cell_len
from rich.console import Console

from pipelines.core.training import steps
from pipelines.core.training.steps import Step, step
from tests.processes import wait_until


@pytest.mark.parametrize("text", ["", "by time", "x" * 300, "音" * 100, "one\ntwo  three"])
@pytest.mark.parametrize("ended", [True, False])
def test_a_line_fits_a_terminal_of_80_columns_and_ends_with_the_seconds(text, ended):
    line = Step("evaluate", text).line(ended)
    assert cell_len(line) == 80
    assert re.fullmatch(r"evaluate  .* 0\.0 s" if ended else r"evaluate  .* 0 s …", line)
    assert "\n" not in line


def test_a_step_that_has_ended_leaves_a_line_with_what_came_of_it(capsys):
    with step("split", "at work") as shown:
        shown.text = "by time"
    out, err = capsys.readouterr()
    assert re.fullmatch(r"split     by time +0\.\d s\n", out)
    assert err == ""


def test_a_step_that_fails_leaves_no_line(capsys):
    with pytest.raises(ZeroDivisionError), step("split"):
        1 / 0  # noqa: B018
    assert capsys.readouterr().out == ""


def test_a_long_step_whose_output_is_no_terminal_says_every_few_seconds_what_it_is_at(monkeypatch):
    out = io.StringIO()
    monkeypatch.setattr("sys.stdout", out)
    monkeypatch.setattr(steps, "BEAT", 0.001)
    with step("fit") as shown:
        shown.text = "epoch 1"
        wait_until(lambda: "epoch 1" in out.getvalue(), "a line")
        shown.text = "epoch 2"
        wait_until(lambda: "epoch 2" in out.getvalue(), "another line")
    *lines, last = out.getvalue().splitlines()
    assert all(line.endswith(" s …") for line in lines)
    assert last.startswith("fit       epoch 2")
    assert last.endswith(" s")
    assert steps.BEAT < 10


def test_a_terminal_shows_the_step_at_its_foot_and_keeps_one_line(monkeypatch):
    out = io.StringIO()
    monkeypatch.setattr("sys.stdout", out)
    monkeypatch.setattr(steps, "BEAT", 0.001)
    monkeypatch.setattr(steps, "Console", lambda: Console(file=out, force_terminal=True, width=80))
    with step("fit", "epoch 1"):
        wait_until(lambda: "epoch 1" in out.getvalue(), "the foot")
    shown = [line for line in out.getvalue().splitlines() if "epoch 1" in line]
    assert sum(re.search(r"fit       epoch 1 .* s$", line) is not None for line in shown) == 1
    assert "\x1b[2K" in out.getvalue()  # the foot is erased
