"""Ask a model about an image: prints the thinking and the answer, writes a mask, boxes and a picture.

    python3 inference_scripts/infer.py --image IMG --text "school" [--map MAP] [--recipe R] [--model M] [--task auto]

Any Python 3 may start it: it sets up the project's own environment and goes on there. `--help` lists everything; it is
the command `verl-socio infer`. `--image` may be a folder or a JSONL file too. Without a model it asks the embedded one.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "training_scripts"))

from environment import enter_environment


def main() -> None:
    """Hand the words of the command line on."""
    enter_environment(__file__)
    from verl_socio.cli import main as command

    sys.argv[1:1] = ["infer"]
    command()


if __name__ == "__main__":
    main()
