"""Train the embedded SAM2 on the city, from random weights, and measure it on the test split.

    python3 training_scripts/train_embedded_sam2.py --out FOLDER [--work FOLDER] [--seed SEED]

With `--out verl_socio/embedded/weights/sam2` this rebuilds the package's own weights, on one thread of a CPU and
without any download. A run that was stopped goes on with the stage it was in; it starts anew after a change of the
sources of city or embedded models, and with another `--work` folder.
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from environment import ROOT, enter_environment


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
    parser.add_argument("--test-scenes", type=int, default=300, help="scenes of the test split; default: 300")
    parser.add_argument("--measure-only", action="store_true", help="measure the weights in --out; train nothing")
    return parser.parse_args()


def main() -> None:
    """Train, save, measure."""
    arguments = parse_arguments()
    enter_environment(__file__)
    import torch

    from verl_socio.embedded import sam2
    from verl_socio.embedded.made_by import made_by
    from verl_socio.embedded.sam2_training.evaluation import evaluate
    from verl_socio.embedded.sam2_training.scenes import cached_scenes
    from verl_socio.embedded.sam2_training.stages import train
    from verl_socio.segment.config import SegmenterConfig
    from verl_socio.segment.loader import load_predictor
    from verl_socio.segment.sam2_model import Sam2Model

    logging.basicConfig(format="%(asctime)s %(message)s")
    logging.getLogger("verl_socio").setLevel(logging.INFO)
    torch.set_num_threads(1)  # sums in one order: the same seed gives the same weights
    if not arguments.measure_only:
        scenes = cached_scenes(arguments.work, arguments.scenes, seed=0)
        checkpoints = arguments.work / f"seed_{arguments.seed}_scenes_{arguments.scenes}_{made_by()}"
        model, _ = train(scenes, arguments.seed, checkpoints=checkpoints)
        print(f"wrote {sam2.save(model, arguments.out)}")
    segmenter = Sam2Model(load_predictor(SegmenterConfig(weights=str(arguments.out), device="cpu")))
    report = evaluate(segmenter, "test", arguments.test_scenes)
    print("\n".join(report.lines()))


if __name__ == "__main__":
    main()
