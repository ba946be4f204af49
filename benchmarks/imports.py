"""How long the rooms that know no torch take to import, each in a fresh process.

python benchmarks/imports.py [--repeats 5]
"""

import argparse
import statistics
import subprocess
import sys
import time

from rich.console import Console

ROOMS = ("geometry", "answer", "render", "metrics", "rewards", "data", "recipes", "episode")


def seconds(code: str) -> float:
    """Wall time of a fresh Python that runs `code`."""
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True)
    return time.perf_counter() - started


def main() -> None:
    """Print the time of all rooms together, less that of an empty Python."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    code = "\n".join(f"import verl_socio.{room}" for room in ROOMS) + "\nimport sys; assert 'torch' not in sys.modules"
    pairs = [(seconds(code), seconds("pass")) for _ in range(repeats)]
    extra = statistics.median(full - empty for full, empty in pairs)
    Console().print(f"{', '.join(ROOMS)}: {extra:.2f} s beyond an empty Python, without torch ({repeats} runs, median)")


if __name__ == "__main__":
    main()
