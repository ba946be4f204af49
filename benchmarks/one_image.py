"""How far one picture of the city can lead: gIoU of the best guesses known to us from map and satellite alone.

    python benchmarks/one_image.py [--split test] [--seed 0] [--samples 240]

Over all questions, those that mean several places too. The guesses are those of `verl_socio/city/readers.py`, which
read vectors and not pixels.
Run it in the project's environment: source training_scripts/setup.sh
"""

import argparse
import statistics

from rich.console import Console

from verl_socio.city import SPLITS, draw_sample, readers
from verl_socio.metrics import mask_iou


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--split", choices=SPLITS, default="test")
    parser.add_argument("--seed", type=int, default=0, help="seed of the city")
    parser.add_argument("--samples", type=int, default=240, help="the first ones of the split")
    return parser.parse_args()


def main() -> None:
    """Print both figures in percent."""
    options = arguments()
    from_map, from_satellite = [], []
    for index in range(options.samples):
        scene, question = draw_sample(options.split, index, options.seed)
        target_hw = scene.mask(question.places)
        from_map.append(mask_iou(readers.from_map(scene, question.places), target_hw))
        from_satellite.append(mask_iou(readers.from_satellite(scene), target_hw))
    map_giou, satellite_giou = (100 * statistics.fmean(ious) for ious in (from_map, from_satellite))
    Console().print(
        f"{options.samples} samples of {options.split}, city of seed {options.seed}: "
        f"gIoU by the map alone {map_giou:.1f}, by the satellite alone {satellite_giou:.1f}",
        soft_wrap=True,
    )


if __name__ == "__main__":
    main()
