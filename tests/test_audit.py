"""The audit's harness, its clean data, and a dozen of the faults that it plants."""

import re

import pytest

from bench.audit.__main__ import DOMAINS, Options, alarms, clean_sets
from bench.audit.faults import Checked, Fault, attempt, clean_check, verdict
from bench.audit.trained import FAULTS as TRAINED
from pipelines.core.contract import InputError

FAST = [(name, fault) for name, domain in DOMAINS.items() for fault in domain.faults if fault.fast]


@pytest.mark.parametrize(("name", "fault"), FAST, ids=[f"{name}: {fault.name}" for name, fault in FAST])
def test_a_planted_fault_is_caught(name, fault):
    result = attempt(DOMAINS[name], fault)
    assert result.caught, result.sentence


@pytest.mark.parametrize("name", DOMAINS)
def test_the_data_that_faults_are_planted_in_raise_no_alarm(name):
    assert alarms(clean_check(DOMAINS[name]), demo=True) == []


def test_there_are_at_least_sixty_faults_and_two_fast_ones_in_each_pipeline():
    names = [(name, fault.name) for name, domain in DOMAINS.items() for fault in domain.faults]
    assert len(set(names)) == len(names) >= 60
    assert len(set(TRAINED)) == len(TRAINED) > 0
    assert all(sum(name == one for one, _ in FAST) >= 2 for name in DOMAINS)


def fault(names="risk", **more):
    return Fault("a fault", "why", "refused", names, lambda data, rng: data, **more)


@pytest.mark.parametrize(
    ("checked", "found"),
    [
        (Checked(refusal="Column 'risk' alone separates"), "refused"),
        (Checked(warnings=("Column 'RISK' is nearly pure.",)), "warned"),
        (Checked(refusal="No record is left"), ""),
        (Checked(warnings=("12 rows of risk are left out",)), ""),  # the clean data have this, with another number
        (Checked(), ""),
    ],
)
def test_only_a_sentence_that_names_the_fault_and_is_new_counts(checked, found):
    clean = Checked(warnings=("7 rows of risk are left out",))
    assert verdict("fraud", fault(), checked, clean).found == found


def test_a_note_is_shown_but_is_not_caught():
    result = verdict("fraud", fault(), Checked(notes=("risk is left out: it is a date.",)), Checked())
    assert (result.found, result.caught) == ("noted", False)


def test_copies_are_caught_if_enough_are_left_out():
    said = Checked(
        warnings=("3 train copies", "9 validation copies"), counts={"3 train copies": 3, "9 validation copies": 9}
    )
    assert verdict("fraud", fault("copies", least=12), said, Checked()).caught
    assert not verdict("fraud", fault("copies", least=13), said, Checked()).caught


def test_on_clean_data_a_refusal_or_a_warning_of_a_leak_is_an_alarm():
    late = "9 payments whose label arrived after test began"
    warnings = ("18 train records identical to one of test", "The file's form tells", late)
    said = Checked("Column 'a' separates", warnings)
    assert alarms(said, demo=False) == ["Column 'a' separates", "The file's form tells"]
    assert alarms(said, demo=True) == [said.refusal, *said.warnings[:2]]


def test_clean_sets_are_the_demos_and_those_named_with_their_flags(tmp_path):
    sets = list(clean_sets(Options(clean=("fraud=default.csv --label default --entity card terminal",))))
    assert {pipeline.name for pipeline, _, demo in sets if demo} == set(DOMAINS)
    pipeline, settings, demo = sets[-1]
    assert (pipeline.name, settings.data, settings.label, settings.entity, demo) == (
        "fraud", "default.csv", "default", ("card", "terminal"), False)  # fmt: skip
    with pytest.raises(InputError, match=re.escape("PIPELINE=PATH")):
        list(clean_sets(Options(clean=("payments.csv",), demos=False)))
