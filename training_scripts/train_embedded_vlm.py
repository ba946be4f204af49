"""Warm-start the embedded vision-language model on the city, from random weights, and measure it on the val split.

    python3 training_scripts/train_embedded_vlm.py --out FOLDER [--work FOLDER] [--seed SEED]

With `--out verl_socio/embedded/weights/qwen2_5_vl` this rebuilds the package's own with its card, on one thread of a
CPU and without any download. What --out holds stays until the new weights are measured. A run that was stopped goes on
with the phase it was in; it starts anew after a change of the recipes or of the sources of city or embedded models, and
with another `--work` folder.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from pathlib import Path

from environment import ROOT, enter_environment

COMMAND = "python3 training_scripts/train_embedded_vlm.py"
REPORTED = 50


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Warm-start the embedded vision-language model on the city.")
    parser.add_argument("--out", type=Path, required=True, help="model folder to write, in place of what it holds")
    parser.add_argument(
        "--work",
        type=Path,
        default=ROOT / "outputs" / "embedded_vlm",
        help="folder for the weights after each phase; default: outputs/embedded_vlm",
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of weights and training; default: 0")
    parser.add_argument("--scenes", type=int, default=4000, help="scenes of the train split; default: 4000")
    parser.add_argument("--val-scenes", type=int, default=200, help="scenes of the val split; default: 200")
    parser.add_argument(
        "--measure-only", action="store_true", help="measure the model in --out, for its card; train nothing"
    )
    return parser.parse_args()


def main() -> None:
    """Train, measure, write model and card."""
    arguments = parse_arguments()
    enter_environment(__file__)
    from verl_socio.embedded.rebuild import check_numbers, renew_figures, replacing, write_card

    try:
        check_numbers(arguments.seed, {"--scenes": arguments.scenes, "--val-scenes": arguments.val_scenes})
    except ValueError as error:
        sys.exit(str(error))

    import torch

    from verl_socio.embedded.warm_start import card, folder
    from verl_socio.embedded.warm_start.evaluate import measure
    from verl_socio.embedded.warm_start.rows import RowMaker
    from verl_socio.embedded.warm_start.scenes import shoot_all
    from verl_socio.embedded.warm_start.settings import Progress, Settings
    from verl_socio.embedded.warm_start.train import resume_mark, train
    from verl_socio.train.settings import shipped_recipe

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(1)  # sums in one order: the same seed gives the same weights
    recipe, single = (shipped_recipe(f"embedded/{name}") for name in ("socioreasoner", "one_stage"))
    settings = Settings()

    def report(progress: Progress) -> None:
        if progress.step % REPORTED == 0:
            parts = f"leading digits {progress.digits:.3f}, all else {progress.words:.3f}, heads {progress.heads:.3f}"
            logging.info("%s, step %d: %s", progress.phase, progress.step, parts)

    def figures_of(written: Path) -> str:
        # The model as it was written: rounded weights, read back.
        model, chat = folder.load(written)
        shots = shoot_all(arguments.val_scenes, seed=0, workers=len(os.sched_getaffinity(0)), split="val")
        measured = {
            kind: measure(model, chat, recipe, shots, sample=kind == "sampled") for kind in ("greedy", "sampled")
        }
        figures = card.figures_text(measured, len(shots))
        print(figures)
        return figures

    if arguments.measure_only:
        renew_figures(arguments.out, figures_of(arguments.out))
        return
    with replacing(arguments.out) as draft:
        shots = shoot_all(arguments.scenes, seed=0, workers=len(os.sched_getaffinity(0)))
        model, chat = folder.fresh([recipe, single], arguments.seed)
        maker = RowMaker(chat, recipe, single)
        mark = resume_mark(settings, maker)
        checkpoints = arguments.work / f"seed_{arguments.seed}_scenes_{arguments.scenes}_{mark}"
        taken = train(model, maker, shots, settings, arguments.seed, report, checkpoints)
        folder.save(model, chat, draft)
        run = card.Run(arguments.scenes, arguments.seed, settings, taken)
        write_card(draft, card.training_text(f"{COMMAND} --out {arguments.out}", run), figures_of(draft))
    print(f"wrote {arguments.out}")


if __name__ == "__main__":
    main()
