"""The examples in docstrings of core are right."""

import doctest

import pytest

from pipelines.core.data import identity, splits
from pipelines.core.evaluation import bootstrap, metrics
from pipelines.core.report import numbers


@pytest.mark.parametrize("module", [identity, splits, bootstrap, metrics, numbers], ids=lambda module: module.__name__)
def test_examples_give_what_they_say(module):
    names = vars(metrics) | vars(module)  # examples of the bootstrap use metrics
    result = doctest.testmod(module, extraglobs=names)
    assert result.attempted
    assert not result.failed
