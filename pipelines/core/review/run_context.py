"""The context of a run: the current champion, the data to append, the weights to start from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from pipelines.core.contract import Pipeline, Settings
from pipelines.core.data.dataset import Dataset
from pipelines.core.data.splits import Splits
from pipelines.core.reading.downloads import Origin
from pipelines.core.review import compatibility
from pipelines.core.store import champions, isolation, manifest, registry
from pipelines.core.training.warm_start import Start


@dataclass(frozen=True, eq=False)
class Context:
    """What a training is compared with and built on.

    Attributes:
        name: the registered model that the network will join.
        champion: the current champion of that model, or None.
        origins: where the data came from: with `--append` those of the version that they are appended to, then
            today's.
        data: the records of all origins, with the vocabularies and class order of `start`.
        drift: how they differ from what the champion was trained on; None without one.
        base: the version to start from; None for a network that starts from random weights.
        start: its network and facts.
    """

    name: str
    champion: registry.Version | None
    origins: Sequence[Origin]
    data: Dataset[Any]
    drift: compatibility.Drift | None
    base: registry.Version | None
    start: Start | None

    def assign_sides(self, splits: Splits) -> Splits:
        """The splits with the champion's test records kept in test, without records that the base has seen."""
        splits = manifest.keep_sides(splits, self.data, self.champion)
        return manifest.drop_seen_records(splits, self.data, self.base) if self.base else splits


def load_context(
    pipeline: Pipeline, settings: Settings, origin: Origin, data: Dataset[Any] | None
) -> tuple[Context, Settings]:
    """The context of a training on `origin`, and its settings, in which `from_` is the number of a version.

    With `--append` the data, None until then, are read here. Drift is printed.

    Raises:
        InputError: for data of another kind than the champion's, or a version that does not exist.
    """
    name = registry.registered_name(pipeline, settings, origin)
    champion, origins = champions.current(name), [origin]
    base = registry.find(name, settings.from_) if settings.from_ else None
    if base:
        registry.check_contract(base)
    start = load_start(base) if base else None
    if data is None:
        origins = manifest.chain(base or champion, name, origin)
        print(f"Together: {', '.join(one.name for one in origins)}.")
        data = manifest.read_all(pipeline, origins, settings)
        print(pipeline.data.describe(data))
    changed = compatibility.compare(pipeline, data, champion, settings) if champion else None
    if changed:
        changed.show()
    if base and start:
        settings = replace(settings, from_=str(base.number))
        adopt = pipeline.data.CAPABILITIES.adopt
        data = adopt(data, start.facts) if adopt else data
    return Context(name, champion, origins, data, changed, base, start), settings


def load_start(version: registry.Version) -> Start:
    """The version to start from, with its network and facts."""
    loaded = isolation.load(version.uri)
    ancestors = f"{version.tags.get('ancestors', '')} {version.number}".strip()
    return Start(version.name, version.number, ancestors, loaded.network, loaded.facts)
