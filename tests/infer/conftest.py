from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def text_model(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Builds a small text model in transformers' own format that always writes one word."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers

    from verl_socio.torchvision_cpu import make_importable

    make_importable()
    from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

    def build(word: str) -> Path:
        folder = tmp_path_factory.mktemp("text_model")
        vocabulary = {"[UNK]": 0, word: 1}
        tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
        tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
        fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]", pad_token="[UNK]")
        fast.save_pretrained(folder)
        config = GPT2Config(
            vocab_size=2, n_positions=1024, n_embd=4, n_layer=1, n_head=1, bos_token_id=0, eos_token_id=0
        )
        model = GPT2LMHeadModel(config)
        with torch.no_grad():
            # Whatever it reads, its last layer points at the word's embedding.
            for name, weights in model.named_parameters():
                weights.zero_()
                if name.endswith("ln_f.bias"):
                    weights.fill_(1.0)
            model.transformer.wte.weight[1] = 1.0
        model.save_pretrained(folder)
        return folder

    return build
