"""The warm start: rows that share images compute what single questions would, and what ships was made this way."""

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from verl_socio.answer import Prompt, Status, describe, parse
from verl_socio.chat import ChatModel
from verl_socio.city.catalog import PLACE_FUNCTIONS
from verl_socio.embedded import qwen2_5_vl
from verl_socio.embedded.tokenizer import train_tokenizer
from verl_socio.embedded.warm_start import card, folder, texts
from verl_socio.embedded.warm_start import heads as heads_module
from verl_socio.embedded.warm_start.batch import collate
from verl_socio.embedded.warm_start.evaluate import Figures, measure
from verl_socio.embedded.warm_start.feedback import first_answer, likely_mask, points_for
from verl_socio.embedded.warm_start.heads import Heads, words_of
from verl_socio.embedded.warm_start.network import Runner
from verl_socio.embedded.warm_start.rows import COPYING_HEAD, MAP_HEAD, SATELLITE_HEAD, Row, RowMaker
from verl_socio.embedded.warm_start.scenes import Shot, shoot_all
from verl_socio.embedded.warm_start.settings import Phase, Progress, Settings, Taken
from verl_socio.embedded.warm_start.silence import placeholders, silence
from verl_socio.embedded.warm_start.train import resume_mark, train
from verl_socio.episode import Turn
from verl_socio.recipes import Template
from verl_socio.train.settings import shipped_recipe

RECIPE, SINGLE = (shipped_recipe(f"embedded/{name}") for name in ("socioreasoner", "one_stage"))
Loaded = tuple[qwen2_5_vl.Qwen2_5_VLForConditionalGeneration, ChatModel]


@pytest.fixture(scope="module")
def shots() -> list[Shot]:
    return shoot_all(4, seed=0)


@pytest.fixture
def fresh() -> Loaded:
    return folder.fresh([RECIPE, SINGLE], seed=1)


def all_rows(maker: RowMaker, shots: list[Shot]) -> list[Row]:
    rng = np.random.default_rng(0)
    return [
        maker.captions(shots[0], False, 3, rng),
        maker.captions(shots[1], True, 3, rng),
        maker.localise(shots[2], 3, rng),
        maker.one_stage(shots[0], 3, rng),
        maker.repeat(shots[1], 3, rng, repeat_weight=1.0),
        maker.refine(shots[3], rng),
    ]


def test_rows_that_share_their_images_give_the_logits_of_single_questions(fresh: Loaded, shots: list[Shot]) -> None:
    model, chat = fresh
    processor = chat.processor.image_processor
    token = model.config.image_token_id
    rows = all_rows(RowMaker(chat, RECIPE, SINGLE), shots)
    batch = collate(rows, token)
    runner = Runner(model.eval(), processor.image_mean, processor.image_std, token)
    with torch.no_grad():
        packed = model.lm_head(runner.read(batch, runner.see(batch.images))[0])
        single = []
        for row in rows:
            features = processor([Image.fromarray(image) for image in row.images], return_tensors="pt")
            for ids, weights in row.tails:
                whole = torch.tensor([[*row.prefix, *ids]])
                logits = model(input_ids=whole, mm_token_type_ids=(whole == token).int(), **features).logits[0]
                single.append(logits[len(row.prefix) + np.flatnonzero(weights) - 1])
    assert len(packed) == len(batch.targets) > 200
    torch.testing.assert_close(packed, torch.cat(single), atol=5e-5, rtol=0)


def test_a_row_reads_as_the_prompt_and_the_answer_in_one(fresh: Loaded, shots: list[Shot]) -> None:
    chat = fresh[1]
    rows = all_rows(RowMaker(chat, RECIPE, SINGLE), shots)[2:]
    stages = (RECIPE.stages[0], SINGLE.stages[0], RECIPE.stages[1], RECIPE.stages[1])
    for row, stage in zip(rows, stages, strict=True):
        for ids, weights in row.tails:
            whole = [*row.prefix, *ids]
            assert chat.tokenizer(chat.tokenizer.decode(whole))["input_ids"] == whole
            said = [token for token, weight in zip(ids, weights, strict=True) if weight]
            answer = parse(chat.decode(said), stage.grammar)
            assert answer.think_format and all(answer.item_exact) and answer.status is not Status.UNPARSEABLE
            assert said[-1] == chat.tokenizer.eos_token_id


def test_leading_digits_are_told_whatever_they_weigh(fresh: Loaded, shots: list[Shot]) -> None:
    """A digit that another digit follows, in what is learnt; digits of boxes that are repeated weigh more."""
    model, chat = fresh
    rows = all_rows(RowMaker(chat, RECIPE, SINGLE), shots)
    batch = collate(rows, model.config.image_token_id)
    expected = []
    for row in rows:
        for ids, weights in row.tails:
            digits = [chat.tokenizer.decode([token]).isdigit() for token in ids]
            pairs = zip(digits, [*digits[1:], False], weights, strict=True)
            expected += [digit and after for digit, after, weight in pairs if weight]
    assert batch.leading.tolist() == expected
    assert set(batch.weights[batch.leading].tolist()) == {1.0, 2.0}


@pytest.mark.parametrize("seed", range(20))
def test_first_answers_lie_in_the_image_and_points_on_the_place(shots: list[Shot], seed: int) -> None:
    rng = np.random.default_rng(seed)
    shot = shots[seed % len(shots)]
    places = shot.questions()[shot.asked]
    boxes_xyxy = first_answer(shot, places, rng)
    height, width = shot.cells_hw.shape
    assert (boxes_xyxy >= 0).all() and (boxes_xyxy <= [width, height, width, height]).all()
    assert (boxes_xyxy[:, 2:] > boxes_xyxy[:, :2]).all()
    mask_hw = likely_mask(shot, boxes_xyxy, rng)
    assert mask_hw.shape == (height, width)
    spots = [shot.spots[place] for place in places]
    for count in (1, 2, 3):
        for points_xy in points_for(boxes_xyxy, spots, mask_hw, shot.cells_hw, count):
            cells = shot.cells_hw[points_xy[:, 1], points_xy[:, 0]]
            meant = [spot for spot in spots if set(cells) <= set(spot.cells)]
            assert meant and len(np.unique(points_xy, axis=0)) == count
            assert len(set(cells)) == min(count, len(meant[0].cells))


def test_a_mirrored_scene_is_the_same_scene_mirrored(shots: list[Shot]) -> None:
    for shot in shots:
        mirrored = shot.mirrored()
        assert np.array_equal(mirrored.map_hw3[:, ::-1], shot.map_hw3)
        assert np.array_equal(mirrored.cells_hw[:, ::-1], shot.cells_hw)
        for spot, other in zip(shot.spots, mirrored.spots, strict=True):
            cell_at = dict(zip(map(tuple, (spot.marks_xy * [-1, 1] + [139, 0]).tolist()), spot.cells, strict=True))
            assert [cell_at[x, y] for x, y in other.marks_xy.tolist()] == other.cells.tolist()
            assert other.cells[0] == spot.cells[0] and (np.diff(other.marks_xy[1:, 0]) >= 0).all()
            rows, columns = np.nonzero(np.isin(mirrored.cells_hw, other.cells))
            x1, y1, x2, y2 = other.box_xyxy
            assert x1 <= columns.min() and columns.max() < x2 and y1 <= rows.min() and rows.max() < y2
        again = mirrored.mirrored()
        for spot, other in zip(shot.spots, again.spots, strict=True):
            for field in dataclasses.fields(spot):
                assert np.array_equal(getattr(spot, field.name), getattr(other, field.name))


def test_each_end_of_a_box_is_looked_for_at_the_part_that_reaches_it(shots: list[Shot]) -> None:
    several = 0
    for shot in [*shots, *(shot.mirrored() for shot in shots)]:
        for spot in shot.spots:
            pixels = [np.argwhere(shot.cells_hw == cell)[:, ::-1] for cell in spot.cells]
            lows, highs = (np.stack([end(part, axis=0) for part in pixels]) for end in (np.min, np.max))
            marks = [tuple(xy) for xy in spot.marks_xy.tolist()]
            left, upper, right, lower = (marks.index(tuple(xy)) for xy in spot.ends_xy.tolist())
            assert lows[left, 0] == lows[:, 0].min() and lows[upper, 1] == lows[:, 1].min()
            assert highs[right, 0] == highs[:, 0].max() and highs[lower, 1] == highs[:, 1].max()
            several += len({left, upper, right, lower}) > 1
    assert several > 3


def test_while_a_pair_of_numbers_is_written_its_place_is_looked_at(fresh: Loaded, shots: list[Shot]) -> None:
    chat = fresh[1]
    maker = RowMaker(chat, RECIPE, SINGLE)
    pair = re.compile(r"(?:at|and) (\d+), (\d+)")
    image_token = chat.tokenizer.convert_tokens_to_ids(chat.processor.image_token)
    for row in all_rows(maker, shots)[1:]:
        for (ids, weights), looks in zip(row.tails, row.looks, strict=True):
            begin = int(np.flatnonzero(weights)[0])
            starts = np.cumsum([0, *(len(chat.tokenizer.decode([token])) for token in ids[begin:])])
            found = list(pair.finditer(chat.tokenizer.decode(ids[begin:])))
            assert found
            for match in found:
                x, y = map(int, match.groups())
                tokens = [begin + index for index, at in enumerate(starts) if match.start(1) <= at < match.end()]
                found_at = {(place + 1 - len(row.prefix), head): target for place, head, target in looks}
                for token in tokens:
                    for head, image in ((MAP_HEAD, 0), (SATELLITE_HEAD, 1)):
                        shown = found_at[token, head]
                        before = [place for place in range(shown) if row.prefix[place] == image_token]
                        assert row.prefix[shown] == image_token and len(before) == 25 * image + y // 28 * 5 + x // 28


def test_what_is_copied_is_read_where_it_stands(fresh: Loaded, shots: list[Shot]) -> None:
    chat = fresh[1]
    rows = all_rows(RowMaker(chat, RECIPE, SINGLE), shots)
    copied = 0
    for row in rows:
        for (ids, _), looks in zip(row.tails, row.looks, strict=True):
            whole = [*row.prefix, *ids]
            copies = [(place, target) for place, head, target in looks if head == COPYING_HEAD]
            assert all(whole[place + 1] == whole[target] for place, target in copies)
            assert all(target < place for place, target in copies)
            copied += len(copies)
    assert copied > 30


def test_the_thought_names_the_colour_and_every_dot_of_it(shots: list[Shot]) -> None:
    for spot in (spot for shot in shots for spot in shot.spots):
        said = texts.marks([spot]).text
        first, second = said.splitlines()
        assert first == "sign at {}, {}".format(*spot.marks_xy[0])
        told = [tuple(map(int, pair)) for pair in re.findall(r"(\d+), (\d+)", second)]
        assert told == [tuple(xy) for xy in spot.marks_xy[1:].tolist()]
        assert second.startswith(f"{PLACE_FUNCTIONS[spot.look[0]].word} dots ")
        assert second.endswith("none") == (not told)


def test_who_overlooks_the_dots_boxes_the_part_with_the_sign(fresh: Loaded, shots: list[Shot]) -> None:
    for shot in shots:
        for place, spot in enumerate(shot.spots):
            glance = shot.glance(place)
            assert texts.marks([glance]).text.endswith(" dots none")
            assert np.array_equal(glance.marks_xy, spot.marks_xy[:1])
            ys, xs = np.nonzero(shot.cells_hw == spot.cells[0])
            assert glance.box_xyxy.tolist() == [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]
    maker = RowMaker(fresh[1], RECIPE, SINGLE)
    for overlooked, dots in ((0.0, True), (1.0, False)):
        row = maker.localise(shots[0], 99, np.random.default_rng(0), overlooked)
        assert any(" dots at" in fresh[1].tokenizer.decode(ids) for ids, _ in row.tails) == dots


def test_heads_on_the_tokens_themselves_can_be_learnt(fresh: Loaded, shots: list[Shot]) -> None:
    torch.manual_seed(0)
    tokens = torch.randn(2, len(shots), 25, 128)
    words = torch.randn(448, 128, requires_grad=True)
    tokenizer = fresh[1].tokenizer
    heads = Heads(128, (5, 5), words_of(lambda text: tokenizer(text)["input_ids"]))
    optimizer = torch.optim.Adam([words, *heads.parameters()], lr=3e-2)
    start = heads.loss(tokens[0], tokens[1], shots, words).item()
    for _ in range(60):
        optimizer.zero_grad()
        heads.loss(tokens[0], tokens[1], shots, words).backward()
        optimizer.step()
    assert heads.loss(tokens[0], tokens[1], shots, words).item() < 0.5 * start


def test_how_far_a_cell_reaches_is_told_from_the_spots_in_it(shots: list[Shot]) -> None:
    cells_hw = np.zeros((28, 56), dtype=np.uint8)
    cells_hw[2:25, 30:50] = 1
    reach = heads_module._reach(cells_hw)
    assert reach.shape == (2, 16, 4), "two tokens of 28 pixels, four spots a side, four ends"
    assert (reach[0] == -1).all(), "the first token shows no cell"
    spot_x, spot_y = 28 + 7 + 3, 7 + 3  # the second token's second spot in its second row
    assert reach[1, 4 + 1].tolist() == [(spot_x - 30) // 2, (spot_y - 2) // 2, (50 - spot_x) // 2, (25 - spot_y) // 2]
    for shot in shots:
        told = heads_module._reach(shot.cells_hw)
        assert ((told >= 0).all(axis=-1) | (told == -1).all(axis=-1)).all() and told.max() < heads_module._REACH_STEPS


def test_training_goes_through_its_phases_repeats_itself_and_goes_on(shots: list[Shot], tmp_path: Path) -> None:
    phases = (
        Phase("sight", 8, None, scenes=2),
        Phase("marks", 12, None, 8, scenes=2),
        Phase("boxes", 9, 100.0, 4, scenes=2),
        Phase("answers", 2, None, 2, scenes=2, refinements=2, fall=2, fades=True, overlooked=0.5),
    )
    settings = Settings(phases=phases, warm_up=4)
    results, lengths = [], []
    for stopped_after in (None, 0, 1, 2):
        if stopped_after is not None:
            (tmp_path / f"{stopped_after + 1}_{phases[stopped_after + 1].name}.safetensors").unlink()
        model, chat = folder.fresh([RECIPE, SINGLE], seed=1)
        seen: list[Progress] = []
        taken = train(model, RowMaker(chat, RECIPE, SINGLE), shots, settings, 0, seen.append, tmp_path)
        assert {name: each.steps for name, each in taken.items()} == {
            "sight": 8,
            "marks": 12,
            "boxes": 1,  # enough at once
            "answers": 2,
        }
        results.append(model.state_dict())
        lengths.append(len(seen))
        if stopped_after is None:
            assert seen[7].heads < seen[0].heads and seen[19].words < seen[8].words
    assert lengths == [23, 12, 1, 2]
    for name, tensor in results[0].items():
        assert all(torch.equal(tensor, other[name]) for other in results[1:])


def test_weights_of_a_stopped_training_are_told_by_settings_recipes_and_tokens(fresh: Loaded) -> None:
    settings, chat = Settings(), fresh[1]
    tokens = ChatModel(qwen2_5_vl.processor(train_tokenizer()), "qwen2_5_vl")
    first, second = RECIPE.stages
    asked = dataclasses.replace(RECIPE, stages=(dataclasses.replace(first, points=3), second))
    moved = dataclasses.replace(first, prompt=Template(first.prompt.source, "/elsewhere/prompt.jinja"))
    marks = {
        resume_mark(settings, RowMaker(chat, RECIPE, SINGLE)),
        resume_mark(dataclasses.replace(settings, warm_up=1), RowMaker(chat, RECIPE, SINGLE)),
        resume_mark(settings, RowMaker(chat, asked, SINGLE)),
        resume_mark(settings, RowMaker(chat, RECIPE, dataclasses.replace(SINGLE, told_items=3))),
        resume_mark(settings, RowMaker(tokens, RECIPE, SINGLE)),
    }
    assert len(marks) == 5
    elsewhere = dataclasses.replace(RECIPE, stages=(moved, second))
    assert resume_mark(settings, RowMaker(chat, elsewhere, SINGLE)) in marks


class Scripted:
    """Stands in for a model: gives the same text to every turn of a stage, and remembers the turns."""

    def __init__(self, *texts: str) -> None:
        self.texts = texts
        self.turns: list[Turn] = []

    def __call__(self, model: object, chat: object, turns: list[Turn], sample: bool) -> tuple[list[str], float]:
        self.turns += turns
        return [self.texts[turn.stage] for turn in turns], 0.0


def measured(
    fresh: Loaded, shots: list[Shot], monkeypatch: pytest.MonkeyPatch, first: list[Prompt], second: list[Prompt]
) -> tuple[Figures, list[Turn]]:
    texts = [
        f"<think>.</think><answer>{describe(prompts, stage.grammar)}</answer>"
        for prompts, stage in zip((first, second), RECIPE.stages, strict=True)
    ]
    scripted = Scripted(*texts)
    monkeypatch.setattr("verl_socio.embedded.warm_start.evaluate._answers", scripted)
    return measure(*fresh, RECIPE, shots[:1], sample=False), scripted.turns


def test_the_second_look_is_told_what_an_episode_tells(
    fresh: Loaded, shots: list[Shot], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = [Prompt((-20.0, 10.0, 50.0, 60.0)), Prompt((150.0, 10.0, 190.0, 60.0))]
    first += [Prompt((10.0, 20.0, 30.0, 40.0))] * RECIPE.told_items
    _, (_, turn) = measured(fresh, shots, monkeypatch, first, [])
    told = [Prompt((0.0, 10.0, 50.0, 60.0)), *first[2:][: RECIPE.told_items - 1]]
    assert describe(told, RECIPE.stages[0].grammar) in turn.text


@pytest.mark.parametrize(("moved", "kept"), [(0.0, 1.0), (1.0, 0.0)])
def test_boxes_are_kept_to_the_pixel_or_not_at_all(
    fresh: Loaded, shots: list[Shot], monkeypatch: pytest.MonkeyPatch, moved: float, kept: float
) -> None:
    first = [Prompt((-20.0, 10.0, 50.0, 60.0))]
    second = [Prompt((0.0, 10.0, 50.0 + moved, 60.0), ((20.0, 20.0), (30.0, 30.0)), (1, 1))]
    figures, _ = measured(fresh, shots, monkeypatch, first, second)
    assert figures.refine_kept == kept


def test_the_card_has_every_figure() -> None:
    figures = Figures(*(0.5 + number / 100 for number in range(7)))
    text = card.figures_text({"greedy": figures, "sampled": figures}, 12)
    rows = re.findall(r"^\| (.*) \| (.*) \| (.*) \|$", text, re.MULTILINE)
    assert [row[1:] for row in rows[1:]] == [(f"{value:.3g}",) * 2 for value in dataclasses.astuple(figures)]
    assert rows[0] == ("12 questions of val", "greedy", "sampled")
    shipped = (qwen2_5_vl.shipped() / "MODEL_CARD.md").read_text()
    told = shipped.partition("\n## Figures\n\n")[2]
    assert re.findall(r"^\| (.*) \| .* \| .* \|$", told, re.MULTILINE)[1:] == [row[0] for row in rows[1:]]


def test_the_card_tells_of_every_phase() -> None:
    settings = Settings()
    taken = {phase.name: Taken(phase.steps, 100.0) for phase in settings.phases}
    text = card.training_text("train", card.Run(1234, 3, settings, taken))
    assert "`train --seed 3 --scenes 1234`" in text and "500 s of one thread" in text
    assert all(f"{phase.steps:,} steps of {phase.name}" in text for phase in settings.phases)


def test_silencing_lowers_the_placeholders_and_nothing_else(fresh: Loaded) -> None:
    model, chat = fresh
    before = model.lm_head.weight.detach().clone()
    states = torch.randn(200, 128, generator=torch.Generator().manual_seed(0)) + 1.0
    tokens = placeholders(chat)
    silence(model, states, tokens)
    with torch.no_grad():
        assert model.lm_head(states).softmax(dim=-1)[:, tokens].sum(dim=-1).max() < 1e-4
    others = [token for token in range(len(before)) if token not in tokens]
    assert torch.equal(model.lm_head.weight[others], before[others])
    assert model.config.image_token_id in tokens and chat.tokenizer.eos_token_id not in tokens


def test_every_word_of_the_city_is_one_token(fresh: Loaded) -> None:
    functions, kinds, markers = words_of(lambda text: fresh[1].tokenizer(text)["input_ids"])
    vocab = fresh[1].tokenizer.get_vocab()
    found = {index for family in (functions, kinds, markers) for names in family for index in names}
    assert {vocab[word] for word in ("Market", "Health", "ĠHall", "Onyx", "Educational")} <= found
    assert len(fresh[1].tokenizer("College Station")["input_ids"]) == 2


@pytest.fixture(scope="module")
def shipped() -> Loaded:
    return folder.load(qwen2_5_vl.shipped())


def test_what_ships_has_the_architecture_that_is_built(
    shipped: Loaded,
    fresh: Loaded,
) -> None:
    model, chat = shipped
    built, built_chat = fresh
    shapes = {name: tensor.shape for name, tensor in model.state_dict().items()}
    assert shapes == {name: tensor.shape for name, tensor in built.state_dict().items()}
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert chat.tokenizer.get_vocab() == built_chat.tokenizer.get_vocab()
    assert chat.grid == built_chat.grid
    assert model.generation_config.eos_token_id == built.generation_config.eos_token_id


def test_what_ships_answers_in_the_asked_form_and_never_with_placeholders(
    shipped: Loaded,
) -> None:
    model, chat = shipped
    figures = measure(model, chat, RECIPE, shoot_all(100, seed=0, split="val"), sample=True)
    assert figures.localise_parsed >= 0.9 and figures.refine_parsed >= 0.9
    assert figures.placeholders < 1e-4


def test_what_ships_looks(shipped: Loaded) -> None:
    model, chat = shipped
    shots = shoot_all(32, seed=0, split="val")
    pictures = zip(shots, [*shots[1:], shots[0]], strict=True)
    wrong = [
        dataclasses.replace(shot, map_hw3=other.map_hw3, satellite_hw3=other.satellite_hw3) for shot, other in pictures
    ]
    seen, unseen = (measure(model, chat, RECIPE, each, sample=False).localise_iou for each in (shots, wrong))
    assert seen > unseen + 0.08
