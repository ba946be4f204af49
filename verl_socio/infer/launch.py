"""The verb `infer`: settle what is asked and by which model, answer, show and keep."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from omegaconf import DictConfig
from rich.console import Console

from verl_socio.chat import ChatModel
from verl_socio.episode import Generate, Reply, Scene, Segment, Turn, run_episode
from verl_socio.errors import invalid
from verl_socio.evaluate.checks import checked
from verl_socio.evaluate.settings import model_of, resolve
from verl_socio.evaluate.station import VLLM, limits_of, sampling_of
from verl_socio.evaluate.subject import subject_of
from verl_socio.evaluate.survey import without_map
from verl_socio.evaluate.vllm_host import Limits, VllmHost, prepare_environment
from verl_socio.guard import Guard
from verl_socio.infer.place import LOG, check_free, claim
from verl_socio.infer.requests import Request, gather
from verl_socio.infer.router import QUESTION, TASKS, Routed, by_model, by_rules
from verl_socio.infer.transformers_host import TransformersHost
from verl_socio.infer.writer import Writer
from verl_socio.masks import SegmentationError
from verl_socio.overrides import quoted
from verl_socio.recipes import Recipe
from verl_socio.recipes.recipe import IMAGES
from verl_socio.segment import SegmenterConfig, create
from verl_socio.segment.sam2_segmenter import DeviceError
from verl_socio.text import for_terminal
from verl_socio.train.prepare import EMBEDDED

AUTO = "auto"
ENGINES = (AUTO, "transformers", "vllm")
# From so many images on, vLLM is taken on a GPU: a guess, not measured. On a CPU it was slower for 24 images, too.
_WORTH_VLLM = 16

console = Console()


@dataclass(frozen=True)
class Options:
    """What a user asks for; `verl-socio infer --help` says what each means."""

    image: str
    text: str | None = None
    map_image: str | None = None
    recipe: str | None = None
    model: str | None = None
    task: str = AUTO
    router: str | None = None
    engine: str = AUTO
    out: Path | None = None
    overrides: Sequence[str] = ()


def infer(options: Options) -> Path:
    """Answer what is asked about one image or many.

    Args:
        options: What is asked.

    Returns:
        The folder with what was found, written anew.

    Raises:
        ValueError: An option, the model or an image breaks a rule; nothing was written.
        RuntimeError: Some images could not be answered; the others' files are kept, and the message says where.
    """
    for field, value, known in (("task", options.task, (AUTO, *TASKS)), ("engine", options.engine, ENGINES)):
        if value not in known:
            raise invalid(field, value, f"must be one of {', '.join(known)}", "use one of them")
    if options.out is not None:
        check_free(options.out)
    asked = gather(options.image, options.text, options.map_image)
    config = _settings(options)
    recipe = checked(config)
    recipes = _recipes(recipe, asked)
    prepare_environment()
    root = Path(config.output_root)
    model = subject_of(model_of(config), root).folder()
    chat = ChatModel.load(model, config.frame)
    for request in asked:
        chat.check_words(request.sample.question)
    routed = _routed(options, asked)
    with claim(options.out, root / "infer") as out:
        # A question is shown whatever images there are.
        limits = replace(limits_of(config, recipe), images=len(IMAGES))
        work = _Work(config, limits, chat, model, Writer(out, recipe), _engine(options, asked))
        with Guard():
            failed = asyncio.run(work.run(list(zip(asked, routed, recipes, strict=True))))
    console.print(f"Written to {out}", markup=False, highlight=False, soft_wrap=True)
    if failed:
        raise RuntimeError(f"{failed} of {len(asked)} images could not be answered; the others are in {out}")
    return out


def _settings(options: Options) -> DictConfig:
    given = [f"model={quoted(options.model or EMBEDDED)}"]
    if options.recipe is not None:
        given.append(f"recipe={quoted(options.recipe)}")
    config = resolve([*given, *options.overrides])
    for key, only, why in (
        ("workers", 1, "one engine answers"),
        ("host", VLLM, "the model answers here"),
        ("best_of", 1, "each image is answered once"),
    ):
        if config[key] != only:
            raise invalid(key, config[key], f"must be {only}: {why}", "leave it out")
    return config


def _recipes(recipe: Recipe, asked: Sequence[Request]) -> list[Recipe]:
    """The recipe as each request is answered by it: without the map where it has none.

    Raises:
        ValueError: A stage shows nothing but the map, and a request has none.
    """
    lacking = [request.name for request in asked if request.sample.map is None]
    if not recipe.needs_map or not lacking:
        return [recipe] * len(asked)
    for stage in recipe.stages:
        if stage.images == ("map",):
            rule = f"is all that stage {stage.name} of recipe {recipe.name} shows, but {lacking[0]} has none"
            raise invalid("map", None, rule, 'give --map, in a JSONL file "map" in each line, or take another recipe')
    told = f"No map was given for {len(lacking)} of {len(asked)} images: of these the model is shown the image alone."
    console.print(told, highlight=False)
    stages = [replace(stage, images=tuple(name for name in stage.images if name != "map")) for stage in recipe.stages]
    alone = replace(recipe, stages=tuple(stages))
    return [alone if request.sample.map is None else recipe for request in asked]


def _routed(options: Options, asked: Sequence[Request]) -> list[Routed]:
    if options.task != AUTO:
        return [Routed(options.task, "the command line")] * len(asked)
    route = by_rules if options.router is None else by_model(options.router)
    return [route(request.sample.question) for request in asked]


def _engine(options: Options, asked: Sequence[Request]) -> str:
    if options.engine != AUTO:
        return options.engine
    return "vllm" if torch.cuda.is_available() and len(asked) >= _WORTH_VLLM else "transformers"


# What is asked, of which kind, and by which recipe it is answered.
_Asked = tuple[Request, Routed, Recipe]


@dataclass(frozen=True)
class _Work:
    """One start of model and segmenter, and all that is asked of them."""

    config: DictConfig
    limits: Limits
    chat: ChatModel
    model: Path
    writer: Writer
    engine: str

    async def run(self, asked: Sequence[_Asked]) -> int:
        """Answer everything; returns how many could not be answered."""
        sampling = sampling_of(self.config)
        if self.engine == "transformers":
            local = TransformersHost.load(self.model, self.chat, sampling, self.limits)
            return await self._answer_all(asked, local, at_once=1)
        host = VllmHost.start(self.model, self.chat, sampling, self.limits, self.writer.folder / LOG)
        try:
            return await self._answer_all(asked, host, at_once=self.config.concurrency)
        finally:
            host.close()

    async def _answer_all(self, asked: Sequence[_Asked], generate: Generate, at_once: int) -> int:
        needs_masks = any(routed.task != QUESTION for _, routed, _ in asked)
        segmenter = create(SegmenterConfig(**self.config.segmenter)) if needs_masks else None
        places = asyncio.Semaphore(at_once)

        async def answer(request: Request, routed: Routed, recipe: Recipe) -> bool:
            async with places:
                try:
                    await self._answer(request, routed, recipe, generate, segmenter)
                except DeviceError:  # every later image would fail as well
                    raise
                except (SegmentationError, ValueError) as error:
                    _tell(f"{request.name}: {error}")
                    return False
                return True

        try:
            return (await asyncio.gather(*[answer(*each) for each in asked])).count(False)
        finally:
            if segmenter is not None:
                segmenter.close()

    async def _answer(
        self, request: Request, routed: Routed, recipe: Recipe, generate: Generate, segmenter: Segment | None
    ) -> None:
        lines = [f"{request.name}: {request.sample.question} ({routed.task}, chosen by {routed.by})"]
        if routed.task != QUESTION and request.sample.map is not None and not recipe.needs_map:
            lines.append(f"its map is left out: recipe {recipe.name} shows none")
            request = replace(request, sample=without_map(request.sample))
        scene = await asyncio.to_thread(Scene.load, request.sample, with_target=False)
        if routed.task == QUESTION:
            images = tuple(scene.images[name] for name in ("map", "satellite") if name in scene.images)
            reply = await generate(Turn(0, images, request.sample.question))
            lines.append(f"answer{_cut_off(reply)}: {reply.text}")
            self.writer.write_words(request, routed, reply)
        else:
            assert segmenter is not None, "made for every task but a question"
            episode = await run_episode(
                scene, recipe, generate=generate, segmenter=segmenter, frame_of=self.chat.frame_of
            )
            for stage, result in zip(recipe.stages, episode.stages, strict=True):
                lines.append(f"{stage.name}, thinking: {result.answer.thinking or '-'}")
                told = f"{stage.name}, answer{_cut_off(result.reply)}"
                lines.append(f"{told}: {result.reply.text.rpartition('</think>')[2].strip()}")
                if result.answer.reason:
                    lines.append(f"{stage.name}: {result.answer.status}: {result.answer.reason}")
            self.writer.write(request, routed, episode)
        _tell("\n".join(lines))


def _cut_off(reply: Reply) -> str:
    return " (cut off at max_response_length)" if reply.record.cut_off else ""


def _tell(text: str) -> None:
    """Print what holds a model's text or a file's."""
    console.print(for_terminal(text), markup=False, highlight=False, soft_wrap=True)
