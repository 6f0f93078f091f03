"""Draw the results: reports/report.html, the decision with what it rests on, and reports/summary.md, the table."""

from stages.contracts import codec
from stages.contracts.row import SUMMARY, Summary
from stages.contracts.selection import SELECTION, Selection
from stages.core import errors, files
from stages.core.git import git
from stages.reporting import page, report_data, table
from stages.reporting.report_data import Code


def code_version() -> Code:
    """What git says of this checkout."""
    commit = git("rev-parse", "--short=12", "HEAD").strip()
    return Code(commit or None, bool(git("status", "--porcelain", "--", "stages", "dvc.yaml")))


def main() -> None:
    """Read the figures and the choice, and write the page and the table."""
    summary, selection = codec.read(Summary, SUMMARY), codec.read(Selection, SELECTION)
    files.write_text(table.SUMMARY_TABLE, table.markdown(summary))
    files.write_text(report_data.PAGE, page.render(report_data.gather(summary, selection, code_version())))


if __name__ == "__main__":
    errors.run(main)
