"""How fast and in how much memory versions predict, at once and at ten times the data: `make bench-predict`.

Every pipeline is trained for one epoch on its demo, in a scratch folder; what it learns does not matter here. The
demo's rows are then written as the files that people have (payments and prices as CSV, images as PNG, clips as WAV),
once and ten times under other names, and predicted by a process of its own each: it reads, joins the history, scores
and writes. Seconds do not count the start of the process; the peak of its memory counts all that it ever held.

Promised: memory does not grow with the number of files, and by at most 200 bytes a row with the rows
that are read of a table; time grows in proportion; 50,000 payments a second on two cores. Measure on a machine that
does nothing else.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import tyro

ROOT = Path(__file__).parents[1]
TIMES = (1, 10)
BYTES = {"fraud": 200, "stocks": 200, "medical_images": 0, "speech_commands": 0}
"""Promised memory, in bytes a row more."""
SLACK = 64 << 20  # bytes, of libraries that keep what they once took
PROPORTION = 1.25  # most that a row of the larger data may cost, in rows of the smaller
RATE = {"fraud": 50_000}
"""Promised rows a second, at the larger size."""
HISTORY_DAYS = 60
"""Days of the demo's payments that are history; the other four months are scored."""

FILES = {
    "fraud": {"path": "new.csv", "history": "history.csv"},
    "stocks": {"path": "new.csv"},
    "medical_images": {"path": "new"},
    "speech_commands": {"path": "new"},
}
READ = {"fraud": 200_000 / 140_000, "stocks": 5_000}
"""Rows read for each that is scored, about: those of the history, and a ticker's past days."""

MEASURED = """
import json, resource, sys
from pipelines.core.store import isolation
asked = json.loads(sys.argv[1])
found = isolation.run_in_version(asked.pop("uri"), True, "pipelines.core.serving.batch_scoring:write", **asked)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps({"rows": found["scored"], "seconds": found["seconds"], "peak": peak * 1024}))
"""


@dataclass(frozen=True)
class Options:
    """What to measure, and where."""

    pipelines: tuple[str, ...] = tuple(BYTES)
    """Pipelines to measure."""
    folder: str = ""
    """Folder for models and data, which are used again if they are there; by default one that is deleted."""


def payments(folder: Path, times: int) -> None:
    from pipelines.fraud import demo

    one = demo.make(0)
    copies = [
        one.assign(payment_id=one["payment_id"] + n * len(one), customer=one["customer"] + f"-{n}",
                   terminal=one["terminal"] + f"-{n}") for n in range(times)
    ]  # fmt: skip
    table = pd.concat(copies).sort_values("time", kind="stable")
    past = table["time"] < table["time"].min() + pd.Timedelta(days=HISTORY_DAYS)
    table[past].to_csv(folder / "history.csv", index=False)
    table[~past].drop(columns="fraud").to_csv(folder / "new.csv", index=False)


def prices(folder: Path, times: int) -> None:
    from pipelines.stocks import demo

    one = demo.indices()
    pd.concat([one.assign(Ticker=one["Ticker"] + f"-{n}") for n in range(times)]).to_csv(
        folder / "new.csv", index=False
    )


def pictures(folder: Path, times: int) -> None:
    from pipelines.medical_images import demo, images

    copied(folder, [images.png(image) for image in demo.make(0)[1]], ".png", times)


def recordings(folder: Path, times: int) -> None:
    from pipelines.speech_commands import audio, demo

    clips = demo.make(16_000, 16_000)[1]
    copied(folder, [audio.wav(clip, 16_000) for clip in clips], ".wav", times)


def copied(folder: Path, files: list[bytes], suffix: str, times: int) -> None:
    for copy in range(times):
        (folder / "new" / str(copy)).mkdir(parents=True)
        for number, content in enumerate(files):
            (folder / "new" / str(copy) / f"{number:05d}{suffix}").write_bytes(content)


DATA: dict[str, Callable[[Path, int], None]] = {
    "fraud": payments,
    "stocks": prices,
    "medical_images": pictures,
    "speech_commands": recordings,
}


def version(name: str, folder: Path) -> str:
    """The address of a version of the pipeline, trained in the folder unless it is there already."""
    if not (folder / "mlruns" / "artifacts" / name).exists():
        child("-m", "pipelines", "train", name, "--epochs", "1", folder=folder)
    return f"models:/{name}-demo/1"


def child(*arguments: str, folder: Path) -> str:
    """What a process of its own prints last, that runs Python in the folder."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    if (folder / "mlruns").exists():
        environment["MLFLOW_TRACKING_URI"] = f"sqlite:///{folder / 'mlruns' / 'mlflow.db'}"
    done = subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment, check=True, stdout=subprocess.PIPE, text=True
    )
    return done.stdout.strip().splitlines()[-1]


def measured(name: str, folder: Path) -> pd.DataFrame:
    """Rows, seconds and peak memory in bytes of predicting the demo's data at each of TIMES."""
    uri, found = version(name, folder), []
    for times in TIMES:
        place = folder / f"{name}-{times}"
        if not place.exists():
            place.mkdir()
            DATA[name](place, times)
        files = {key: str(place / file) for key, file in FILES[name].items()}
        asked = {
            "uri": uri,
            "data": name,
            "name": name,
            "number": 1,
            "out": str(place / "out.csv"),
            "history": "",
        }
        found.append(json.loads(child("-c", MEASURED, json.dumps(asked | files), folder=folder)))
    return pd.DataFrame(found, index=pd.Index(TIMES, name="times"))


def broken(name: str, found: pd.DataFrame) -> list[str]:
    """The promises that the figures do not keep, each in a sentence."""
    small, large = (found.loc[times] for times in TIMES)
    more, faults = (large["rows"] - small["rows"]) * READ.get(name, 1), []
    grown, promised = large["peak"] - small["peak"], BYTES[name] * more + SLACK
    if grown > promised:
        faults.append(f"{name}: {grown / 2**20:,.0f} MiB more memory, {promised / 2**20:,.0f} are promised.")
    if large["seconds"] > PROPORTION * small["seconds"] * large["rows"] / small["rows"]:
        faults.append(f"{name}: time grows faster than the data, {small['seconds']:.1f} to {large['seconds']:.1f} s.")
    if large["rows"] / large["seconds"] < RATE.get(name, 0):
        faults.append(f"{name}: {large['rows'] / large['seconds']:,.0f} rows a second, {RATE[name]:,} are promised.")
    return faults


def main(options: Options) -> int:
    """Print the figures of each pipeline; return 1 if a promise is broken."""
    faults = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(options.folder or scratch).resolve()
        folder.mkdir(exist_ok=True)
        for name in options.pipelines:
            found = measured(name, folder)
            faults += broken(name, found)
            shown = found.assign(rate=found["rows"] / found["seconds"], peak=found["peak"] / 2**20)
            print(f"\n{name}: rows scored, seconds, rows a second, peak memory in MiB")
            print(shown[["rows", "seconds", "rate", "peak"]].round(1).to_string(), flush=True)
    print("\n" + ("\n".join(faults) or "All promises are kept."))
    return int(bool(faults))


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Options, description=__doc__)))
