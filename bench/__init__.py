"""Published protocols on public data, one a pipeline: `make bench-NAME` prints their figures beside the published."""

from pipelines.__main__ import prepare

prepare()
