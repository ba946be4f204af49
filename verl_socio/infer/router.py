"""Which of VisionReasoner's four tasks an instruction asks for: a small text model says so, or rules."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from verl_socio.errors import invalid
from verl_socio.torchvision_cpu import make_importable

DETECTION, SEGMENTATION, COUNTING, QUESTION = "detection", "segmentation", "counting", "question"
TASKS = (DETECTION, SEGMENTATION, COUNTING, QUESTION)
BY_RULES = "rules"

# The first that matches decides; what matches none names something to be found, as SocioSeg's questions do.
_RULES = (
    (COUNTING, r"\bhow many\b|\bcount(?:ing)?\b(?! towards)|\b(?:number|amount) of\b"),
    (SEGMENTATION, r"\bsegment(?:ed|ation)?\b|\bmasks?\b|\boutlines?\b|\bpixels?\b"),
    (DETECTION, r"\bdetect(?:ed|ion)?\b|\bbound(?:ing)?\b|\bbox(?:es)?\b|\blocate\b|\bwhere (?:is|are)\b"),
    (
        QUESTION,
        r"^(?:what|why|who|whose|when|which|how|is|are|was|were|does|do|did|can|could|has|have|describe|explain)\b",
    ),
    (QUESTION, r"\?\s*$"),
)
_PROMPT = """An instruction about a picture asks for one of four things:
detection: boxes around objects. segmentation: the exact area of something.
counting: a number of objects. question: an answer in words.
Instruction: {text}
Answer with one word, detection, segmentation, counting or question."""
_NEW_TOKENS = 8
_MAX_CHARS = 4000


@dataclass(frozen=True)
class Routed:
    """A task and who chose it.

    Attributes:
        task: One of `TASKS`.
        by: "rules", or the text model's name.
    """

    task: str
    by: str


Router = Callable[[str], Routed]


def by_rules(text: str) -> Routed:
    """Choose by words of the instruction; without any of them it is segmentation."""
    lowered = text[:_MAX_CHARS].casefold().strip()
    return Routed(next((task for task, words in _RULES if re.search(words, lowered)), SEGMENTATION), BY_RULES)


def by_model(name: str) -> Router:
    """Let a text model choose; where it names no task, the rules do, and the result says so.

    Args:
        name: Folder or Hub id of a model that writes text, such as Qwen/Qwen2.5-1.5B-Instruct.

    Raises:
        ValueError: There is no such model.
    """
    make_importable()  # transformers' pipelines import torchvision
    from transformers import pipeline

    try:
        write: Any = pipeline("text-generation", model=name)
    except (OSError, ValueError) as error:  # what transformers raises for a name it cannot find or load
        rule = f"must be the folder or Hub id of a text model ({str(error).splitlines()[0]})"
        raise invalid("router", name, rule, "correct it, or leave it out for the rules") from error

    def route(text: str) -> Routed:
        prompt: Any = _PROMPT.format(text=text[:_MAX_CHARS])
        if write.tokenizer.chat_template is not None:
            prompt = [{"role": "user", "content": prompt}]
        written = write(prompt, max_new_tokens=_NEW_TOKENS, do_sample=False, return_full_text=False)[0][
            "generated_text"
        ]
        named = re.search("|".join(TASKS), str(written).casefold())
        return Routed(named[0], name) if named else by_rules(text)

    return route
