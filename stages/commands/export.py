"""`make export`: the chosen variant, written for servers."""

from pathlib import Path

from stages.commands.outcome import current_choice
from stages.params import document
from stages.serving import export as serving
from stages.tracking import receipts


def export(target: Path) -> None:
    """Write the winner into the folder and print what is where; PipelineError without a current choice."""
    document.check()
    current_choice()
    print("\n".join(serving.write(target, receipts.champion())))
