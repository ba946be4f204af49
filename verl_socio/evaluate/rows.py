"""What is kept of a sample: one line of `results.jsonl`.

Tables, and whatever else is computed later, start from these lines alone.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from verl_socio.answer import Answer, Prompt
from verl_socio.data.truth import UNKNOWN, Truth
from verl_socio.errors import invalid
from verl_socio.metrics import MaskScore


@dataclass(frozen=True)
class StageRow:
    """What happened in one stage.

    Attributes:
        name: The stage's name in the recipe.
        text: All that the model wrote.
        thinking: The part of it inside `<think>`.
        status: "ok", "empty" (a well-formed answer that names nothing) or "unparseable".
        reason: Why it could not be parsed, or what was dropped; "" if nothing was.
        think_format: Whether the text is thinking and an answer and nothing else.
        prompts: The objects named, in the image's own pixels: `box_xyxy` (x1, y1, x2, y2, or null), `points_xy` (a list
            of x, y) and `labels` (one a point, 1 on the object and 0 off it).
        predicted_iou: The segmenter's own estimate, one for each mask that was asked for.
        score: The stage's mask against the target; None where the protocol asks for no masks.
        tokens: Tokens that the model wrote; None where the host does not say.
        cut_off: Whether the answer ended at the limit of its length; None where the host does not say.
        generate_at: When the question was asked, in seconds after the sample's start.
        generate_s: Seconds from the question to the answer; with many samples under way most of them are waiting.
        segment_at: When the masks were asked for, in seconds after the sample's start.
        segment_s: Seconds from the answer to the masks, likewise; 0 where nothing was asked for.
    """

    name: str
    text: str
    thinking: str
    status: str
    reason: str
    think_format: bool
    prompts: tuple[dict[str, Any], ...]
    predicted_iou: tuple[float, ...]
    score: MaskScore | None
    tokens: int | None
    cut_off: bool | None
    generate_at: float
    generate_s: float
    segment_at: float
    segment_s: float

    @property
    def mask_score(self) -> MaskScore:
        """The score, where the protocol asks for masks."""
        assert self.score is not None, self.name
        return self.score


@dataclass(frozen=True)
class SampleRow:
    """One sample.

    Attributes:
        id: The sample's id.
        question: What was asked for.
        level: "name", "class" or "function"; None in sets that know no levels.
        size_wh: Width and height of the images in pixels.
        target_area: Pixels of the target, those to be ignored left out; None where the protocol asks for no masks.
        target_instances: Connected regions of the target of more than 10 pixels; None likewise.
        center_box: The baseline: the same centred box for every sample, as a mask; None likewise, and where no sample
            has a target.
        failure: Why there is no result; None if there is one. A failed sample counts in every stage as intersection 0
            and union `target_area`.
        stages: One for each stage of the recipe; none for a failed sample.
        seconds: From the sample's start to its end.
        started: When that was, in Unix time.
        index: The sample's place in the set, from 0.
        truth: What is known of the answer beside its mask.
    """

    id: str
    question: str
    level: str | None
    size_wh: tuple[int, int]
    target_area: int | None
    target_instances: int | None
    center_box: MaskScore | None
    failure: str | None
    stages: tuple[StageRow, ...]
    seconds: float
    started: float
    index: int
    truth: Truth = UNKNOWN

    def to_line(self) -> str:
        """The row as one line of JSON, with its line break."""
        return json.dumps(asdict(self), allow_nan=False) + "\n"

    @classmethod
    def from_line(cls, line: str) -> SampleRow:
        """Read what `to_line` wrote.

        Raises:
            ValueError: The line is no JSON, or no row.
        """
        try:
            values: Mapping[str, Any] = json.loads(line)
            stages = tuple(_stage(stage) for stage in values["stages"])
            known = {**values, "size_wh": tuple(values["size_wh"]), "stages": stages}
            known["truth"] = Truth.from_values(values["truth"])
            return cls(**{**known, "center_box": _score(values["center_box"])})
        except (KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ValueError(f"{type(error).__name__}: {error}") from error


def read_rows(path: Path) -> Iterator[SampleRow]:
    """Read a `results.jsonl` row by row, in the order in which the samples were finished.

    A last line without its line break, left by a kill or being written, is passed over: its sample is done again.

    Raises:
        ValueError: A row cannot be read; the message names its line.
    """
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            if not line.endswith("\n"):
                return
            try:
                yield SampleRow.from_line(line)
            except ValueError as error:
                rule = f"must hold a result in each line, but line {number} is none ({error})"
                raise invalid("results", str(path), rule, "delete the line: its sample is done again") from error


def _stage(values: Mapping[str, Any]) -> StageRow:
    lists = {key: tuple(values[key]) for key in ("prompts", "predicted_iou")}
    return StageRow(**{**values, **lists, "score": _score(values["score"])})


def _score(values: Mapping[str, Any] | None) -> MaskScore | None:
    return None if values is None else MaskScore(**values)


def prompts_of(answer: Answer) -> tuple[dict[str, Any], ...]:
    """The objects of an answer in the image's own pixels, as `StageRow.prompts` holds them."""
    return tuple(_prompt(prompt) for prompt in answer.prompts)


def _prompt(prompt: Prompt) -> dict[str, Any]:
    box = None if prompt.box_xyxy is None else list(prompt.box_xyxy)
    return {"box_xyxy": box, "points_xy": [list(xy) for xy in prompt.points_xy], "labels": list(prompt.labels)}
