"""The contract between core and a domain: what a folder `pipelines/NAME/` must provide.

    __init__.py   PIPELINE = Pipeline(...), facts only
    data.py       About, Facts, read, parse, split, select_test, learn, encode, columns, describe, CAPABILITIES
    model.py      build, LOSS; optionally adapt
    task.py       TASK, a `core.tasks.task.Task`: scores, measures, metrics, calibration, decisions
    report.py     baselines, report; optionally deficit and remarks
    baselines.py, inspection.py   the baselines and the checks for leaks, where they are long
    demo.py       the embedded data
    commands.py   COMMANDS, the domain's own, if there are any
    sources.py    SOURCES, the public data sets, if there are any
    README.md     the model card

`contract/modules.py` says what each function takes and returns. The modules are imported at first use and checked then.
Listing the pipelines thus loads neither NumPy nor Keras; for the same reason this package imports the standard library
alone.
"""

from pipelines.core.contract.errors import DivergedError, InputError, UnrecordedError
from pipelines.core.contract.modules import Capabilities, History
from pipelines.core.contract.pipeline import Gate, Metric, Pipeline, Settings, Source, discover

__all__ = [
    "Capabilities", "DivergedError", "Gate", "History", "InputError", "Metric", "Pipeline", "Settings", "Source",
    "UnrecordedError", "discover",
]  # fmt: skip
