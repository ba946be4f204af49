"""Train the embedded SAM2 on the city, from random weights, and measure it on the test split.

    python3 training_scripts/train_embedded_sam2.py --out FOLDER [--work FOLDER] [--seed SEED]

With `--out verl_socio/embedded/weights/sam2` this rebuilds the package's own weights with their card, on one thread of
a CPU and without any download. What --out holds stays until the new weights are measured. A run that was stopped goes
on with the stage it was in; it starts anew after a change of the sources of city or embedded models, and with another
`--work` folder.
"""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from environment import ROOT, enter_environment

COMMAND = "python3 training_scripts/train_embedded_sam2.py"


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Train the embedded SAM2 on the city and measure it on test.")
    parser.add_argument("--out", type=Path, required=True, help="folder for weights, in place of those it holds")
    parser.add_argument(
        "--work",
        type=Path,
        default=ROOT / "outputs" / "embedded_sam2",
        help="folder for scenes (400 MB) and checkpoints; default: outputs/embedded_sam2",
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of weights and training; default: 0")
    parser.add_argument("--scenes", type=int, default=4000, help="scenes of the train split; default: 4000")
    parser.add_argument("--test-scenes", type=int, default=200, help="scenes of the test split; default: 200")
    parser.add_argument(
        "--measure-only", action="store_true", help="measure the weights in --out, for their card; train nothing"
    )
    return parser.parse_args()


def main() -> None:
    """Train, measure, write weights and card."""
    arguments = parse_arguments()
    enter_environment(__file__)
    from verl_socio.embedded.rebuild import check_numbers, renew_figures, replacing, write_card

    try:
        check_numbers(arguments.seed, {"--scenes": arguments.scenes, "--test-scenes": arguments.test_scenes})
    except ValueError as error:
        sys.exit(str(error))

    import torch

    from verl_socio.embedded import sam2
    from verl_socio.embedded.made_by import made_by
    from verl_socio.embedded.sam2_training import card
    from verl_socio.embedded.sam2_training.evaluation import evaluate
    from verl_socio.embedded.sam2_training.scenes import cached_scenes
    from verl_socio.embedded.sam2_training.stages import train
    from verl_socio.segment.config import SegmenterConfig
    from verl_socio.segment.loader import load_predictor
    from verl_socio.segment.sam2_model import Sam2Model

    logging.basicConfig(format="%(asctime)s %(message)s")
    logging.getLogger("verl_socio").setLevel(logging.INFO)
    torch.set_num_threads(1)  # sums in one order: the same seed gives the same weights
    command = f"{COMMAND} --out {arguments.out}"

    def figures_of(weights: Path) -> str:
        segmenter = Sam2Model(load_predictor(SegmenterConfig(weights=str(weights), device="cpu")))
        report = evaluate(segmenter, "test", arguments.test_scenes)
        measuring = f"{command} --measure-only --test-scenes {arguments.test_scenes}"
        figures = card.figures_text(report, arguments.test_scenes, measuring)
        print(figures)
        return figures

    if arguments.measure_only:
        renew_figures(arguments.out, figures_of(arguments.out))
        return
    with replacing(arguments.out) as draft:
        scenes = cached_scenes(arguments.work, arguments.scenes, seed=0)
        checkpoints = arguments.work / f"seed_{arguments.seed}_scenes_{arguments.scenes}_{made_by()}"
        model, _ = train(scenes, arguments.seed, checkpoints=checkpoints)
        sam2.save(model, draft)
        training = f"{command} --seed {arguments.seed} --scenes {arguments.scenes}"
        write_card(draft, card.training_text(training, arguments.seed, arguments.scenes), figures_of(draft))
    print(f"wrote {arguments.out}")


if __name__ == "__main__":
    main()
