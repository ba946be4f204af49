import re
from dataclasses import replace

import pytest

from verl_socio.data import load_samples
from verl_socio.episode import Scene, Turn
from verl_socio.rehearsal import rehearse
from verl_socio.train.settings import shipped_recipe

FIELD = "some.budget"


@pytest.fixture(scope="module")
def samples(tiny_data):
    return load_samples(str(tiny_data), "train")


@pytest.fixture(scope="module")
def recipe():
    return shipped_recipe("socioreasoner")


def needed(samples, recipe, chat, budget):
    """How many tokens which stage of which sample is said to need."""
    with pytest.raises(ValueError, match=rf"^{FIELD} = {budget}: is too small: .*Fix: raise it") as caught:
        rehearse(samples, recipe, chat, budget, FIELD, with_target=False)
    stage, name, tokens = re.search(r"stage (\w+) of sample (\S+) needs (\d+) tokens", str(caught.value)).groups()
    return stage, name, int(tokens)


def test_a_prompt_that_cannot_fit_is_told_with_its_numbers(samples, recipe, tiny_chat):
    stage, name, tokens = needed(samples, recipe, tiny_chat, 10)
    assert (stage, name) == ("localise", samples[0].id)
    stage, _, more = needed(samples, recipe, tiny_chat, tokens)
    assert stage == "refine" and more > tokens
    assert needed(samples, recipe, tiny_chat, more - 1)[2] == more
    rehearse(samples, recipe, tiny_chat, more, FIELD, with_target=False)


def test_the_images_are_those_that_are_shown(samples, recipe, tiny_chat):
    _, _, whole = needed(samples, recipe, tiny_chat, 10)
    _, _, reduced = needed(samples, replace(recipe, max_pixels=56 * 56), tiny_chat, 10)
    tokens = tiny_chat.grid.num_tokens(samples[0].satellite.size_wh)
    assert whole - reduced == 2 * (tokens - 4)


def test_a_second_prompt_repeats_as_much_as_it_ever_does(samples, recipe, tiny_chat):
    scene = Scene.load(samples[0], with_target=False)
    stage = recipe.stages[1]
    size_wh = tiny_chat.frame_of(scene.size_wh).size_wh
    images = tuple(scene.images[name] for name in stage.images)

    def length(previous):
        text = stage.ask(question=samples[0].question, previous=previous, size_wh=size_wh)
        return len(tiny_chat.encode(Turn(1, images, text)).prompt_ids)

    said = ", ".join(['{"bbox_2d": [54, 40, 56, 42]}'] * recipe.told_items)
    _, _, tokens = needed(samples, recipe, tiny_chat, length("[]"))
    assert tokens == pytest.approx(length(f"[{said}]"), abs=2 * recipe.told_items)


def test_the_question_of_the_most_tokens_counts_not_that_of_the_most_letters(samples, recipe, tiny_chat):
    tokens = {
        text: len(tiny_chat.tokenizer.encode(text)) for text in ("school " * 8, "7 # 7 # 7 # 7 # 7 # 7 # 7 # 7 #")
    }
    letters, signs = tokens
    assert len(letters) > len(signs) and tokens[letters] < tokens[signs]
    first, second = (replace(sample, question=text) for sample, text in zip(samples[:2], tokens, strict=True))
    both = needed([first, second], recipe, tiny_chat, 10)
    assert both[2] == needed([second], recipe, tiny_chat, 10)[2] > needed([first], recipe, tiny_chat, 10)[2]


@pytest.mark.parametrize("at", [0, 3])
def test_no_question_may_hold_a_control_token(samples, recipe, tiny_chat, at):
    asked = [replace(sample, question=f"a long question of many words {sample.id}") for sample in samples]
    asked[at] = replace(asked[at], question="a <|im_end|>")
    with pytest.raises(ValueError, match=r"question = 'a <\|im_end\|>': must not hold the model's control tokens"):
        rehearse(asked, recipe, tiny_chat, 4096, FIELD, with_target=False)


def test_answers_are_rewarded_only_where_they_will_be(samples, recipe, tiny_chat):
    unknown = [replace(sample, target=None) for sample in samples]
    rehearse(unknown, recipe, tiny_chat, 4096, FIELD, with_target=False)
    with pytest.raises(ValueError, match=r"target of \S+ = None"):
        rehearse(unknown, recipe, tiny_chat, 4096, FIELD, with_target=True)
