"""What the evaluator is worth against a plain loop over the samples: same weights, data and machine, in one run.

    python benchmarks/evaluator.py [--samples 120] [--model DIR] [--data DIR] [--segmenter WEIGHTS] [--repeats 3]

The plain loop works as the published evaluation scripts do: one sample at a time, transformers' `generate` for one
prompt, SAM2's `set_image` anew in each stage and one `predict` a box. The evaluator is the product's own, with rows and
small pictures written. Both answer greedily with the same prompts; loading the models is not counted.
Run it in the project's environment: source training_scripts/setup.sh
"""

import argparse
import asyncio
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from omegaconf import OmegaConf
from rich.console import Console

from verl_socio.answer import Prompt
from verl_socio.chat import ChatModel
from verl_socio.data import Sample, load_samples
from verl_socio.data.sample import ImageRef
from verl_socio.episode import Reply, Scene, Turn, run_episode
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


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=120)
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


def plain_loop(
    samples: list[Sample], recipe: Recipe, chat: ChatModel, model: PlainModel, segmenter: PlainSegmenter
) -> tuple[float, float]:
    """Seconds, and the mean IoU."""
    started = time.perf_counter()
    ious = []
    for sample in samples:
        scene = Scene.load(sample, with_target=False)
        hosts = {"generate": model, "segmenter": segmenter, "frame_of": chat.frame_of}
        episode = asyncio.run(run_episode(scene, recipe, **hosts))
        ious.append(mask_iou(episode.stages[-1].mask_hw, sample.target_mask()))
    return time.perf_counter() - started, statistics.fmean(ious)


async def evaluator(
    samples: list[Sample], recipe: Recipe, host: VllmHost, config: SegmenterConfig, repeats: int
) -> list[tuple[float, float]]:
    """Seconds and the mean IoU of each run; a run more comes first, which warms up and is not told."""
    segmenter = create(config)
    runs = []
    try:
        for _ in range(repeats + 1):
            await segmenter.reset_features()
            with tempfile.TemporaryDirectory() as folder, Results(Path(folder) / "e", Fingerprint({}, {})) as results:
                pictures = Pictures(Path(folder) / "pictures", len(samples), 0, 256)
                product = Evaluator(recipe, host, segmenter, host.chat.frame_of, 0.1, pictures)
                started = time.perf_counter()
                await feed(samples, results, [product.evaluate], min(64, len(samples)), lambda row: None)
                seconds = time.perf_counter() - started
                runs.append((seconds, statistics.fmean(row.stages[-1].score.iou for row in results.rows())))
    finally:
        segmenter.close()
    return runs[1:]


def main() -> None:
    """Print samples a second of both and their ratio."""
    options, console = arguments(), Console()
    config = resolve("embedded", [])
    recipe = Recipe.from_config(OmegaConf.to_container(config.recipe, resolve=True))
    folder = options.model or embedded_model(OUTPUTS)
    chat = ChatModel.load(folder)
    samples = load_samples(options.data or str(embedded_city(OUTPUTS)), "test")[: options.samples]
    limits = Limits(config.data.max_prompt_length, config.data.max_response_length, images=2)
    weights = SegmenterConfig(weights=options.segmenter)
    model, segmenter = PlainModel(folder, chat, limits.max_response_length), PlainSegmenter(weights)
    plain_loop(samples[:4], recipe, chat, model, segmenter)
    plain = [plain_loop(samples, recipe, chat, model, segmenter) for _ in range(options.repeats)]
    with tempfile.NamedTemporaryFile(suffix=".log") as log:
        host = VllmHost.start(folder, chat, Sampling(), limits, Path(log.name))
        try:
            product = asyncio.run(evaluator(samples, recipe, host, weights, options.repeats))
        finally:
            host.close()
    rates = []
    for name, runs in (("plain loop", plain), ("evaluator", product)):
        rates.append(len(samples) / statistics.median(seconds for seconds, _ in runs))
        times = ", ".join(f"{seconds:.1f}" for seconds, _ in runs)
        console.print(f"{name}: {rates[-1]:.2f} samples a second ({times} s); mean IoU {runs[0][1]:.4f}")
    console.print(
        f"{len(samples)} samples, {torch.get_num_threads()} threads; ratio of medians {rates[1] / rates[0]:.2f}"
    )


if __name__ == "__main__":
    main()
