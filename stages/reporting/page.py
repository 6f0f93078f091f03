"""The whole report in one file that needs nothing else."""

from pathlib import Path

from stages.reporting.report_data import Report

FOLDER = Path(__file__).parent
# Both lie beside this module; the style is written into the page.
TEMPLATE = "assets/report.html.j2"
STYLE = "assets/report.css"


def style() -> str:
    """The page's style sheet."""
    return (FOLDER / STYLE).read_text(encoding="utf-8")


def render(report: Report) -> str:
    """The page; every text is escaped but the charts, which escape their own, and the style."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(TEMPLATE).render(vars(report), style=style())
