"""Make every figure of every variant from the raw records: summary.json, and what DVC compares."""

from stages.contracts import codec, labels
from stages.contracts.row import SUMMARY
from stages.core import errors
from stages.params import measurement
from stages.statistics import summary, tables


def main() -> None:
    """Read params and all records, and write the metrics, the tables and the summary."""
    made = summary.build(measurement.variants())
    codec.encode(made, str(SUMMARY))  # what the record refuses, no metric and no table has either
    tables.write(made, labels.read())
    codec.write(made, SUMMARY)


if __name__ == "__main__":
    errors.run(main)
