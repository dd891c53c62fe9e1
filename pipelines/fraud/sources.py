"""Public data sets of card payments: where they are downloaded from, their checksums, licences and citations."""

from pipelines.core.contract import Source

SOURCES = {
    "creditcard": Source(
        url="https://storage.googleapis.com/download.tensorflow.org/data/creditcard.csv",
        checksum="",  # none is published; rows and frauds are counted after reading
        size=0,
        licence="DbCL 1.0",
        citation="Dal Pozzolo, Caelen, Johnson and Bontempi (2015), Calibrating probability with undersampling for "
        "unbalanced classification; Worldline and the Machine Learning Group of ULB",
    )
}
"""By the name that `--data` takes."""
