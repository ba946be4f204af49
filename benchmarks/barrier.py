"""What waiting between the stages costs: the same episodes with and without a barrier, on the same engine.

    python benchmarks/barrier.py [--samples 64] [--repeats 3] [--model DIR] [--data DIR]

With the barrier, no episode begins its second stage before all have their first mask, as where a batch is generated,
then segmented, then generated again. Without it, an episode goes on as soon as its own mask is there. Both are run in
turn.
Run it in the project's environment: source training_scripts/setup.sh
"""

import argparse
import asyncio
import statistics
import tempfile
import time
from pathlib import Path

from omegaconf import OmegaConf
from rich.console import Console

from verl_socio.chat import ChatModel
from verl_socio.data import load_samples
from verl_socio.episode import Choose, Scene, StageResult, run_episode
from verl_socio.evaluate.vllm_host import Limits, Sampling, VllmHost
from verl_socio.recipes import Recipe
from verl_socio.segment import SegmenterConfig, create
from verl_socio.train.prepare import embedded_city, embedded_model
from verl_socio.train.settings import ROOT, resolve

OUTPUTS = ROOT / "outputs"


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=64, help="episodes at once")
    parser.add_argument("--repeats", type=int, default=3, help="pairs of runs")
    parser.add_argument("--model", type=Path, help="model folder; default: the embedded one")
    parser.add_argument("--data", help="data set with a test split; default: the embedded city")
    return parser.parse_args()


def barrier_for(episodes: int) -> Choose:
    """Lets nobody on before `episodes` have come."""
    barrier = asyncio.Barrier(episodes)

    async def wait(result: StageResult) -> StageResult:
        await barrier.wait()
        return result

    return wait


async def measure(
    options: argparse.Namespace, host: VllmHost, chat: ChatModel, recipe: Recipe
) -> list[tuple[float, float]]:
    """Seconds without and with the barrier, a pair each repeat."""
    samples = load_samples(options.data or str(embedded_city(OUTPUTS)), "test")[: options.samples]
    scenes = [Scene.load(sample, with_target=False) for sample in samples]
    segmenter = create(SegmenterConfig(cache_images=len(scenes)))

    async def once(choose: Choose | None) -> float:
        await segmenter.reset_features()
        started = time.perf_counter()
        hosts = {"generate": host, "segmenter": segmenter, "frame_of": chat.frame_of, "choose": choose}
        await asyncio.gather(*(run_episode(scene, recipe, **hosts) for scene in scenes))
        return time.perf_counter() - started

    await once(None)  # warm-up
    return [(await once(None), await once(barrier_for(len(scenes)))) for _ in range(options.repeats)]


def main() -> None:
    """Print both times and their ratio."""
    options = arguments()
    config = resolve("embedded", [])
    recipe = Recipe.from_config(OmegaConf.to_container(config.recipe, resolve=True))
    model = options.model or embedded_model()
    chat = ChatModel.load(model)
    limits = Limits(config.data.max_prompt_length, config.data.max_response_length, images=2)
    with tempfile.NamedTemporaryFile(suffix=".log") as log:
        host = VllmHost.start(model, chat, Sampling(temperature=1.0), limits, Path(log.name))
        try:
            pairs = asyncio.run(measure(options, host, chat, recipe))
        finally:
            host.close()
    without, with_barrier = (statistics.median(times) for times in zip(*pairs, strict=True))
    ratios = sorted(late / early for early, late in pairs)
    Console().print(
        f"{options.samples} episodes of {len(recipe.stages)} stages, {options.repeats} pairs of runs, medians\n"
        f"without barrier {without:.2f} s   with barrier {with_barrier:.2f} s   "
        f"ratio {statistics.median(ratios):.2f} (from {ratios[0]:.2f} to {ratios[-1]:.2f})"
    )


if __name__ == "__main__":
    main()
