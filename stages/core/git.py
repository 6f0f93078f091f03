"""What git tells of this checkout."""

import subprocess


def git(*arguments: str) -> str:
    """What it prints; empty where it fails."""
    done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=False)
    return "" if done.returncode else done.stdout
