"""What the evaluator is worth against a plain loop over the samples: same weights, data and machine, in one run.

    python benchmarks/evaluator.py [--samples 240] [--model DIR] [--data DIR] [--segmenter WEIGHTS] [--repeats 3]

The plain loop works as the published evaluation scripts do: one sample at a time, transformers' `generate` for one
prompt, SAM2's `set_image` anew in each stage and one `predict` a box; it computes with one thread or with all, whatever
is faster here. The evaluator is the product's own, with rows and small pictures written. Both answer greedily with the
same prompts and are run in turn; loading the models is not counted. Beside the rates stand the seconds of CPU that a
sample cost, over all processes: they say the same on a machine that does other work as well.
Run it in the project's environment: source training_scripts/setup.sh
"""

import argparse
import asyncio
import statistics
import tempfile
import time
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import torch
from omegaconf import OmegaConf
from rich.console import Console

from verl_socio.answer import Prompt
from verl_socio.chat import ChatModel
from verl_socio.data import Sample, load_samples
from verl_socio.data.sample import ImageRef
from verl_socio.episode import Reply, Scene, Segment, Turn, run_episode
from verl_socio.evaluate.evaluator import Evaluator
from verl_socio.evaluate.feeding import feed
from verl_socio.evaluate.fingerprint import Fingerprint
from verl_socio.evaluate.pictures import Pictures
from verl_socio.evaluate.results import Results
from verl_socio.evaluate.vllm_host import Limits, Sampling, VllmHost
from verl_socio.masks import Masks
from verl_socio.metrics import mask_iou
from verl_socio.recipes import Recipe
from verl_socio.segment import SegmenterConfig, create
from verl_socio.train.prepare import embedded_city, embedded_model
from verl_socio.train.settings import ROOT, resolve

OUTPUTS = ROOT / "outputs"
# Samples for warming up and for the choice of the plain loop's threads.
FEW = 8
# Samples under way at once, as in configs/evaluate/eval.yaml.
CONCURRENCY = 64

# What a sample came to: what the model wrote in all stages, and the IoU of the last mask.
Outcome = tuple[tuple[str, ...], float]


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=240)
    parser.add_argument("--repeats", type=int, default=3, help="runs of each")
    parser.add_argument("--model", type=Path, help="model folder; default: the embedded one")
    parser.add_argument("--data", help="data set with a test split; default: the embedded city")
    parser.add_argument("--segmenter", default="embedded", help="weights of SAM2")
    return parser.parse_args()


class PlainModel:
    """One prompt at a time through transformers."""

    def __init__(self, folder: Path, chat: ChatModel, length: int) -> None:
        from transformers import AutoModelForImageTextToText

        on_gpu = torch.cuda.is_available()
        kind = torch.bfloat16 if on_gpu else torch.float32
        model = AutoModelForImageTextToText.from_pretrained(folder, dtype=kind)
        self._model = model.eval().to("cuda" if on_gpu else "cpu")
        self._chat = chat
        self._length = length

    async def __call__(self, turn: Turn) -> Reply:
        """Answer greedily."""
        encoded = self._chat.encode(turn)
        device = self._model.device
        ids = torch.tensor([encoded.prompt_ids], device=device)
        features = {name: values.to(device) for name, values in encoded.features.items()}
        with torch.inference_mode():
            settings = {"do_sample": False, "max_new_tokens": self._length, "attention_mask": torch.ones_like(ids)}
            written = self._model.generate(input_ids=ids, **settings, **features)
        return Reply(self._chat.decode(written[0, ids.shape[1] :].tolist()))


class PlainSegmenter:
    """One call a box through SAM2's own predictor."""

    def __init__(self, config: SegmenterConfig) -> None:
        from verl_socio.segment.loader import load_predictor

        self._predictor = load_predictor(config)

    async def segment(self, image: ImageRef, prompts: Sequence[Prompt]) -> Masks:
        """The best of three masks for each prompt."""
        masks, scores = [], []
        with torch.inference_mode():
            self._predictor.set_image(image.open())
            for prompt in prompts:
                points = np.array(prompt.points_xy, dtype=np.float32) if prompt.points_xy else None
                labels = np.array(prompt.labels) if prompt.labels else None
                box = None if prompt.box_xyxy is None else np.array(prompt.box_xyxy)
                found, trust, _ = self._predictor.predict(points, labels, box, multimask_output=True)
                masks.append(found[trust.argmax()] > 0)
                scores.append(float(trust.max()))
        return Masks(np.stack(masks), np.array(scores))


@dataclass(frozen=True)
class PlainLoop:
    """The loop of the published scripts, with `threads` threads of torch."""

    recipe: Recipe
    chat: ChatModel
    model: PlainModel
    segmenter: PlainSegmenter
    threads: int

    async def run(self, samples: Sequence[Sample]) -> list[Outcome]:
        """One sample after another."""
        kept = torch.get_num_threads()
        torch.set_num_threads(self.threads)
        outcomes = []
        for sample in samples:
            scene = Scene.load(sample, with_target=False)
            hosts = {"generate": self.model, "segmenter": self.segmenter, "frame_of": self.chat.frame_of}
            stages = (await run_episode(scene, self.recipe, **hosts)).stages
            iou = mask_iou(stages[-1].mask_hw, sample.target_mask())
            outcomes.append((tuple(stage.reply.text for stage in stages), iou))
        torch.set_num_threads(kept)
        return outcomes


@dataclass(frozen=True)
class Product:
    """The evaluator, writing into a folder of its own each time."""

    recipe: Recipe
    host: VllmHost
    segmenter: Segment

    async def run(self, samples: Sequence[Sample]) -> list[Outcome]:
        """All samples, many at once."""
        with tempfile.TemporaryDirectory() as folder, Results(Path(folder) / "e", Fingerprint({}, {})) as results:
            pictures = Pictures(Path(folder) / "pictures", len(samples), 0, 256)
            product = Evaluator(self.recipe, self.host, self.segmenter, self.host.chat.frame_of, 0.1, pictures)
            await feed(samples, results, [product.evaluate], min(CONCURRENCY, len(samples)), lambda row: None)
            rows = sorted(results.rows(), key=lambda row: row.index)
        return [(tuple(stage.text for stage in row.stages), row.stages[-1].mask_score.iou) for row in rows]


@dataclass(frozen=True)
class Run:
    """One pass over all samples: seconds that passed, seconds of CPU in all processes."""

    seconds: float
    cpu_s: float
    outcomes: list[Outcome]


async def timed(running: Awaitable[list[Outcome]]) -> Run:
    """Wait for a pass and take its time."""
    started, cpu_s = time.perf_counter(), _cpu_seconds()
    outcomes = await running
    return Run(time.perf_counter() - started, _cpu_seconds() - cpu_s, outcomes)


def _cpu_seconds() -> float:
    here = psutil.Process()
    times = [process.cpu_times() for process in (here, *here.children(recursive=True))]
    return float(sum(each.user + each.system for each in times))


async def fastest(loops: Sequence[PlainLoop], samples: Sequence[Sample]) -> PlainLoop:
    """The loop with the number of threads that serves it best."""
    for loop in loops:
        await loop.run(samples[:1])  # the first call is slower, whatever it does
    taken = [(await timed(loop.run(samples[:FEW]))).seconds for loop in loops]
    return loops[taken.index(min(taken))]


def tell(console: Console, name: str, runs: Sequence[Run]) -> float:
    """Print a line about the runs of one kind; return their median samples a second."""
    samples = len(runs[0].outcomes)
    rate = samples / statistics.median(run.seconds for run in runs)
    cpu_ms = 1000 * statistics.median(run.cpu_s for run in runs) / samples
    times = ", ".join(f"{run.seconds:.1f}" for run in runs)
    iou = statistics.fmean(iou for _, iou in runs[0].outcomes)
    told = f"{name}: {rate:.2f} samples a second ({times} s), {cpu_ms:.0f} ms of CPU a sample, mean IoU {iou:.4f}"
    console.print(told, soft_wrap=True)
    return rate


async def measure(options: argparse.Namespace, console: Console) -> None:
    """Run both in turn and print samples a second, CPU time and the ratio."""
    config = resolve("embedded", [])
    recipe = Recipe.from_config(OmegaConf.to_container(config.recipe, resolve=True))
    folder = options.model or embedded_model()
    chat = ChatModel.load(folder)
    samples = load_samples(options.data or str(embedded_city(OUTPUTS)), "test")[: options.samples]
    limits = Limits(config.data.max_prompt_length, config.data.max_response_length, images=2)
    weights = SegmenterConfig(weights=options.segmenter)
    model, plain_segmenter = PlainModel(folder, chat, limits.max_response_length), PlainSegmenter(weights)
    loops = [PlainLoop(recipe, chat, model, plain_segmenter, count) for count in {1, torch.get_num_threads()}]
    loop = await fastest(loops, samples)
    pairs = []
    with tempfile.NamedTemporaryFile(suffix=".log") as log:
        host = VllmHost.start(folder, chat, Sampling(), limits, Path(log.name))
        segmenter = create(weights)
        try:
            product = Product(recipe, host, segmenter)
            await product.run(samples[:FEW])
            for _ in range(options.repeats):
                await segmenter.reset_features()
                pairs.append((await timed(loop.run(samples)), await timed(product.run(samples))))
        finally:
            segmenter.close()
            host.close()
    plain, ours = zip(*pairs, strict=True)
    slow = tell(console, f"plain loop, {loop.threads} thread(s)", plain)
    fast = tell(console, "evaluator", ours)
    alike = sum(one[0] == other[0] for one, other in zip(plain[0].outcomes, ours[0].outcomes, strict=True))
    cpu_ratio = statistics.median(one.cpu_s / other.cpu_s for one, other in pairs)
    console.print(f"{len(samples)} samples; the same answers in both stages for {alike} of them")
    console.print(f"ratio of medians {fast / slow:.2f}; CPU time, plain / evaluator: {cpu_ratio:.2f}")


def main() -> None:
    """Measure."""
    asyncio.run(measure(arguments(), Console()))


if __name__ == "__main__":
    main()
