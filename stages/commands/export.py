"""`make export`: the chosen variant, written for servers."""

from pathlib import Path

from stages.commands import kept, results
from stages.commands.lock import exclusive
from stages.commands.outcome import current_choice
from stages.core.shown import say
from stages.serving import export as serving
from stages.tracking import receipts


def export(target: Path) -> None:
    """Write the winner into the folder and print what is where; PipelineError without a current choice."""
    with exclusive():
        kept.settle()
        current_choice(excused=bool(results.told()))
        say("\n".join(serving.write(target, receipts.champion())))
