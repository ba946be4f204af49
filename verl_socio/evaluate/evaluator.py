"""Runs a sample's episode and makes its row."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from verl_socio.answer import Prompt, Status
from verl_socio.data.sample import ImageRef, Sample
from verl_socio.episode import Episode, Generate, Reply, Scene, Segment, StageResult, Turn, run_episode
from verl_socio.evaluate.ground_truth import GroundTruth
from verl_socio.evaluate.pictures import Pictures
from verl_socio.evaluate.rows import SampleRow, StageRow, prompts_of
from verl_socio.geometry import Frame
from verl_socio.masks import Masks, SegmentationError
from verl_socio.recipes import Recipe
from verl_socio.segment.sam2_segmenter import DeviceError


@dataclass(frozen=True)
class Evaluator:
    """What all samples share.

    Attributes:
        recipe: The method.
        generate: Lets the model answer.
        segmenter: Turns prompts into masks.
        frame_of: The model's coordinate frame for an image of a given width and height.
        center_box_share: Share of the image inside the baseline's box; None where no sample has a target.
        pictures: Where pictures go.
        others: More draws of the answers, each with a whole episode; the episode is kept whose last masks the segmenter
            trusts most.
    """

    recipe: Recipe
    generate: Generate
    segmenter: Segment
    frame_of: Callable[[tuple[int, int]], Frame]
    center_box_share: float | None
    pictures: Pictures
    others: tuple[Generate, ...] = ()

    async def evaluate(self, index: int, sample: Sample) -> SampleRow:
        """Run one sample's episode. Its next stage begins as soon as its own mask is there.

        Args:
            index: The sample's place in the set, from 0.
            sample: The sample.

        Returns:
            Its row, also where there is no result: then with the reason.

        Raises:
            ValueError: The right answer cannot be read.
            Exception: What would stop every later sample as well: the engine or the GPU died.
        """
        clock = _Clock()
        try:
            scene = await asyncio.to_thread(Scene.load, sample, with_target=False)
        except ValueError as error:  # damaged or gone since the set was looked at
            truth = await asyncio.to_thread(GroundTruth.without_picture, sample)
            return self._row(index, sample, truth, (), clock, str(error))
        truth = await asyncio.to_thread(GroundTruth.load, sample)
        try:
            episode, hosts = await self._best(scene, clock)
        except DeviceError:  # every later sample would fail as well
            raise
        except (SegmentationError, ValueError) as error:
            return self._row(index, sample, truth, (), clock, str(error))
        stages = await asyncio.to_thread(self._stage_rows, episode, hosts, truth)
        row = self._row(index, sample, truth, stages, clock, None)
        await asyncio.to_thread(self.pictures.draw, index, episode, truth.target_hw, row, self.recipe)
        return row

    async def _best(self, scene: Scene, clock: _Clock) -> tuple[Episode, _Watched]:
        """An episode of each draw, and the one of them to keep."""
        draws = [_Watched(generate, self.segmenter, clock) for generate in (self.generate, *self.others)]
        running = (
            run_episode(scene, self.recipe, generate=hosts, segmenter=hosts, frame_of=self.frame_of) for hosts in draws
        )
        # All are waited for, and then the first error counts: none goes on behind the sample's back.
        ended = await asyncio.gather(*running, return_exceptions=True)
        for each in ended:
            if isinstance(each, BaseException):
                raise each
        episodes = [each for each in ended if isinstance(each, Episode)]
        return max(zip(episodes, draws, strict=True), key=lambda pair: _trust(pair[0]))

    def _row(
        self,
        index: int,
        sample: Sample,
        truth: GroundTruth,
        stages: Iterable[StageRow],
        clock: _Clock,
        failure: str | None,
    ) -> SampleRow:
        return SampleRow(
            id=sample.id,
            question=sample.question,
            level=sample.level,
            size_wh=truth.size_wh,
            target_area=truth.area,
            target_instances=truth.instances,
            center_box=truth.center_box(self.center_box_share),
            failure=failure,
            stages=tuple(stages),
            seconds=clock.seconds(),
            started=clock.started,
            index=index,
            truth=sample.truth,
        )

    def _stage_rows(self, episode: Episode, hosts: _Watched, truth: GroundTruth) -> list[StageRow]:
        return [_stage_row(self.recipe.stages[r.turn.stage].name, r, hosts, truth) for r in episode.stages]


def _trust(episode: Episode) -> float:
    """The segmenter's estimate of an episode's last masks: their mean predicted IoU; below all where there is none."""
    predicted = episode.stages[-1].predicted_iou
    return float(np.mean(predicted)) if len(predicted) else -1.0


def _stage_row(name: str, result: StageResult, hosts: _Watched, truth: GroundTruth) -> StageRow:
    answer, usage = result.answer, result.reply.record
    generated = hosts.generated[result.turn.stage]
    segmented = hosts.segmented.get(result.turn.stage, _Span(generated.at + generated.seconds, 0.0))
    return StageRow(
        name=name,
        text=result.reply.text,
        thinking=answer.thinking,
        status=str(answer.status),
        reason=answer.reason,
        think_format=answer.think_format,
        prompts=prompts_of(answer),
        predicted_iou=tuple(result.predicted_iou.tolist()),
        score=truth.score(result.mask_hw, answered=answer.status is not Status.UNPARSEABLE),
        tokens=getattr(usage, "tokens", None),
        cut_off=getattr(usage, "cut_off", None),
        generate_at=generated.at,
        generate_s=generated.seconds,
        segment_at=segmented.at,
        segment_s=segmented.seconds,
    )


@dataclass(frozen=True)
class _Clock:
    """A sample's stopwatch; `started` is in Unix time."""

    started: float = field(default_factory=time.time)
    _zero: float = field(default_factory=time.perf_counter)

    def seconds(self) -> float:
        """Since the start."""
        return time.perf_counter() - self._zero

    def since(self, at: float) -> _Span:
        """From `at` to now."""
        return _Span(at, self.seconds() - at)


@dataclass(frozen=True)
class _Span:
    """A stretch of time: when it began, in seconds after the sample's start, and how long it was."""

    at: float
    seconds: float


@dataclass
class _Watched:
    """The hosts of one episode, with a stopwatch for each stage."""

    generate: Generate
    segmenter: Segment
    clock: _Clock
    generated: dict[int, _Span] = field(default_factory=dict)
    segmented: dict[int, _Span] = field(default_factory=dict)
    _stage: int = 0

    async def __call__(self, turn: Turn) -> Reply:
        at = self.clock.seconds()
        reply = await self.generate(turn)
        self._stage = turn.stage
        self.generated[turn.stage] = self.clock.since(at)
        return reply

    async def segment(self, image: ImageRef, prompts: Sequence[Prompt]) -> Masks:
        at = self.clock.seconds()
        masks = await self.segmenter.segment(image, prompts)
        self.segmented[self._stage] = self.clock.since(at)
        return masks
