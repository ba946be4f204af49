"""Merge a training checkpoint into a Hugging Face model folder and verify it.

    python3 training_scripts/model_merger.py [--local_dir CHECKPOINT] [--target_dir FOLDER]

Any Python 3 may start it: it sets up the project's own environment and goes on there.
"""

import argparse
import os
import sys
from pathlib import Path

from environment import ROOT, enter_environment


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Merge a training checkpoint into a Hugging Face model folder.")
    parser.add_argument(
        "--local_dir",
        type=Path,
        help="checkpoint (global_step_N or its actor folder) or a folder above; default: the newest below outputs/",
    )
    parser.add_argument("--target_dir", type=Path, help="folder to write; default: <run>/merged/global_step_N")
    return parser.parse_args()


def main() -> int:
    """Merge, and say in one line what is wrong where a user can mend it."""
    arguments = parse_arguments()
    enter_environment(__file__)
    from verl_socio.train.merge import merge

    local_dir, target_dir = (
        None if folder is None else folder.absolute() for folder in (arguments.local_dir, arguments.target_dir)
    )
    os.chdir(ROOT)  # the default is outputs/ of this clone, wherever the script was started
    try:
        merge(local_dir, target_dir)
    except (ValueError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
