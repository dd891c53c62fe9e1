"""Public data sets of speech commands: where they are downloaded from, their checksums, licences and citations."""

from pipelines.core.contract import Source

SOURCES = {
    "speech-commands": Source(
        url="https://storage.googleapis.com/download.tensorflow.org/data/speech_commands_v0.02.tar.gz",
        checksum="sha256:af14739ee7dc311471de98f5f9d2c9191b18aedfe957f4a6ff791c709868ff58",
        size=0,
        licence="CC BY 4.0",
        citation="Warden (2018), Speech Commands: a dataset for limited-vocabulary speech recognition",
    )
}
"""By the name that `--data` takes."""
