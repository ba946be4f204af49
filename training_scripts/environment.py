"""For scripts that any Python 3 may start: go on in the project's own environment, made where it is missing."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def enter_environment(script: str) -> None:
    """Start a script again in the project's environment unless it runs there.

    Args:
        script: The script's `__file__`.
    """
    environment = ROOT / ".venv"
    if Path(sys.prefix).resolve() == environment.resolve():
        return
    subprocess.run(["bash", str(ROOT / "training_scripts" / "setup.sh")], check=True)
    python = str(environment / "bin" / "python")
    os.execv(python, [python, str(Path(script).resolve()), *sys.argv[1:]])
