"""What a training has behind it: the champion that it will meet, the data that it joins, the weights it starts from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import pandas as pd

from pipelines.core import drift, manifest, record, registry, warm
from pipelines.core.pipeline import Pipeline, Settings, Splits
from pipelines.core.sources import Origin


@dataclass(frozen=True, eq=False)
class Past:
    """The past of a training, and its records in that light.

    Args:
        name: the registered model that the network will join.
        champion: of that name, or None.
        origins: of the records: with `--append` those of the version that they are appended to, then today's.
        records: of all origins, with the vocabularies and class order of `start`.
        drift: how they differ from what the champion was trained on; None without one.
        start: what the network starts from; None for one that starts anew.
    """

    name: str
    champion: registry.Version | None
    origins: Sequence[Origin]
    records: pd.DataFrame
    drift: drift.Drift | None
    start: warm.Start | None

    def kept(self, splits: Splits) -> Splits:
        """The splits, in which the champion's test records stay test, without what the network has learnt already."""
        splits = manifest.keep_sides(splits, self.records, self.champion)
        return manifest.unlearnt(splits, self.records, self.start.version) if self.start else splits


def gather(
    pipeline: Pipeline, settings: Settings, origin: Origin, records: pd.DataFrame | None
) -> tuple[Past, Settings]:
    """The past of a training that asks for `origin`, and its settings, in which `from_` is the number of a version.

    With `--append` the records, None until then, are read here. Drift is printed.

    Raises:
        InputError: for data of another kind than the champion's, or a version that there is not.
    """
    name = record.registered_name(pipeline, settings, origin)
    champion, origins, start = registry.champion(name), [origin], None
    base = registry.find(name, settings.from_) if settings.from_ else champion
    if records is None:
        origins = manifest.chain(base, name, origin)
        print(f"Together: {', '.join(one.name for one in origins)}.")
        records = manifest.read_all(pipeline, origins, settings)
        print(pipeline.data.describe(records))
    changed = drift.compare(pipeline, records, champion, settings) if champion else None
    if changed:
        changed.show()
    if settings.from_:
        start = warm.load(base)
        settings = replace(settings, from_=str(base.number))
        records = pipeline.data.adopt(records, start.facts) if hasattr(pipeline.data, "adopt") else records
    return Past(name, champion, origins, records, changed, start), settings
