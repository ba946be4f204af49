"""What a training step is made of, from the metrics of a run.

    python benchmarks/steps.py outputs/embedded

Prints the median seconds of each phase over all steps but each start's first, which pays for warming up.
"""

import argparse
import json
import statistics
from collections import defaultdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

PHASES = ("gen", "old_log_prob", "ref", "adv", "update_actor", "update_weights", "save_checkpoint", "step")


def steps_of(run: Path) -> list[dict[str, float]]:
    """The metrics of each training step but the first of each start."""
    steps = []
    for path in sorted((run / "metrics").glob("*.jsonl")):
        entries = [json.loads(line)["data"] for line in path.read_text(encoding="utf-8").splitlines()]
        steps += [entry for entry in entries if "timing_s/step" in entry][1:]
    return steps


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="a run's folder")
    run = parser.parse_args().run
    steps = steps_of(run)
    if not steps:
        raise SystemExit(f"{run} has no metrics of more than one step: give a run's folder, such as outputs/embedded")
    values = defaultdict(list)
    for step in steps:
        for name, value in step.items():
            values[name].append(value)
    whole = statistics.median(values["timing_s/step"])
    table = Table(title=f"{run.name}: {len(steps)} steps")
    for column in ("phase", "median s", "share of a step"):
        table.add_column(column, justify="left" if column == "phase" else "right")
    for phase in PHASES:
        if times := values[f"timing_s/{phase}"]:
            median = statistics.median(times)
            table.add_row(phase, f"{median:.2f}", f"{median / whole:.0%}")
    console = Console()
    console.print(table)
    tokens = statistics.median(values["perf/total_num_tokens"])
    memory = max(value for name, found in values.items() if name.endswith("perf/cpu_memory_used_gb") for value in found)
    agreement = min(value for name, found in values.items() if name.endswith("agreement/pearson") for value in found)
    difference = max(value for name, found in values.items() if name.endswith("agreement/mean_diff") for value in found)
    console.print(
        f"tokens a step {tokens:.0f}, tokens a second {tokens / whole:.0f}, memory in use here {memory:.1f} GB"
        "\n"
        f"agreement of vLLM and actor: Pearson >= {agreement:.6f}, mean difference <= {difference:.2g} nats\n"
        f"image encodes for each distinct image and step: at most {max(values['segmenter/encodes_per_image']):.2f}"
    )


if __name__ == "__main__":
    main()
