"""The rows of supervised fine-tuning, as the data set class that verl loads (`data.custom_cls`)."""

from __future__ import annotations

import asyncio
import os
from functools import cache
from typing import Any

import torch
from omegaconf import DictConfig, ListConfig, OmegaConf
from torch.utils.data import Dataset

from verl_socio.chat import ChatModel, Encoded
from verl_socio.engine.dataset import samples_of
from verl_socio.episode import Scene, Segment
from verl_socio.errors import invalid
from verl_socio.recipes import Recipe
from verl_socio.segment import SegmenterConfig, create
from verl_socio.teacher import lesson


@cache
def _segmenter_of(process: int, config: SegmenterConfig) -> Segment:
    """Training and validation share one in each process: its threads do not come along to a data loader's worker."""
    return create(config)


class LessonDataset(Dataset):
    """One row for each stage of each question: the episode's own prompt, and the right answer.

    A row whose prompt has P tokens and whose answer has R tokens:
        input_ids           (P + R,): <|im_start|> ... <|vision_start|> image_pad x k <|vision_end|> ... assistant,
                            then <answer>...</answer><|im_end|>
        loss_mask           (P + R,): P zeros, R ones
        position_ids        (4, P + R): of the text, then time, height and width of the multimodal rotary embedding
        multi_modal_inputs  `pixel_values` and `image_grid_thw`

    Args:
        parquet_files: One split of a source, or several, as `with_split` names them; any kind of source.
        tokenizer: Unused; verl passes it.
        config: verl's `data` section; `episode` in it holds the run's `recipe`, `segmenter` and `frame`.
        processor: The model's processor as verl loads it.
        max_samples: Keep only the first so many questions; -1 keeps all.
    """

    def __init__(
        self,
        parquet_files: str | list[str] | ListConfig,
        tokenizer: Any,
        config: DictConfig,
        processor: Any,
        max_samples: int = -1,
    ) -> None:
        self._samples = samples_of(parquet_files, max_samples)
        self._budget = {name: int(config[f"max_{name}_length"]) for name in ("prompt", "response")}
        self._seed = int(config.seed)
        episode: Any = OmegaConf.to_container(config.episode, resolve=True)
        self._recipe = Recipe.from_config(episode["recipe"])
        self._segmenter = SegmenterConfig(**episode["segmenter"])
        self._chat = ChatModel(processor, processor.config.model_type, episode["frame"])

    def __len__(self) -> int:
        return len(self._samples) * len(self._recipe.stages)

    def __getitem__(self, index: int) -> dict[str, Any]:
        question, stage = divmod(index, len(self._recipe.stages))
        sample = self._samples[question]
        taught = asyncio.run(
            lesson(
                Scene.load(sample, with_target=True),
                self._recipe,
                stage,
                segmenter=_segmenter_of(os.getpid(), self._segmenter),
                frame_of=self._chat.frame_of,
                seed=self._seed,
            )
        )
        encoded, answer_ids = self._chat.encode(taught.turn), self._chat.answer_ids(taught.answer)
        for name, ids in (("prompt", encoded.prompt_ids), ("response", answer_ids)):
            if len(ids) > self._budget[name]:
                rule = f"is too small: stage {self._recipe.stages[stage].name} of sample {sample.id} needs {len(ids)}"
                raise invalid(f"data.max_{name}_length", self._budget[name], rule, "raise it")
        return self._row(encoded, answer_ids)

    def _row(self, encoded: Encoded, answer_ids: list[int]) -> dict[str, Any]:
        input_ids = torch.tensor([*encoded.prompt_ids, *answer_ids])
        return {
            "input_ids": input_ids,
            "position_ids": self._positions(input_ids, encoded.features),
            "loss_mask": torch.tensor([0] * len(encoded.prompt_ids) + [1] * len(answer_ids)),
            "multi_modal_inputs": {name: encoded.features[name] for name in ("pixel_values", "image_grid_thw")},
        }

    def _positions(self, input_ids: torch.Tensor, features: dict[str, torch.Tensor]) -> torch.Tensor:
        """As verl's agent loop counts them: (4, length), by the method that verl binds to the processor."""
        token_types = {}
        if "mm_token_type_ids" in features:  # those of the prompt; the answer is text
            found = features["mm_token_type_ids"]
            token_types["mm_token_type_ids"] = torch.nn.functional.pad(found, (0, len(input_ids) - found.shape[1]))
        vision, _ = self._chat.processor.get_rope_index(
            input_ids=input_ids[None],
            attention_mask=torch.ones_like(input_ids)[None],
            image_grid_thw=features["image_grid_thw"],
            **token_types,
        )
        return torch.cat([torch.arange(len(input_ids))[None], vision[:, 0]])
