"""A tiny LLaVA of transformers' own classes, without training: it proves wiring, never that a caption is right."""

from itertools import pairwise
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    CLIPImageProcessorPil,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
)

PAD, START, END, IMAGE = SPECIAL = ("<pad>", "<s>", "</s>", "<image>")
SIDE, PATCH = 28, 14
IMAGE_TOKENS = (SIDE // PATCH) ** 2
TEMPLATE = (
    "<s>{% for message in messages %}{{ message.role }}: {% for part in message.content %}"
    "{% if part.type == 'image' %}<image>{% else %}{{ part.text }}{% endif %}{% endfor %}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)


def build_random(folder: Path, ends: int = 1) -> Path:
    """A LLaVA of random weights in `folder`, the same on every call; 0.2 MB, a token is a byte.

    Args:
        ends: So many tokens end an answer, so that some answers end before `max_tokens` and others do not.
    """
    return _build(folder, None, ends)


def build_scripted(folder: Path, says: str) -> Path:
    """One whose weights are set by hand to answer everything with `says`, which is one token of it."""
    return _build(folder, says, 1)


def _build(folder: Path, says: str | None, ends: int) -> Path:
    torch.manual_seed(0)
    tokens = [*SPECIAL, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    tokenizer = Tokenizer(models.BPE({token: index for index, token in enumerate(tokens)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    if says:
        tokenizer.add_tokens([says])
    size = {"height": SIDE, "width": SIDE}
    LlavaProcessor(
        CLIPImageProcessorPil(size=size, crop_size=size),
        PreTrainedTokenizerFast(
            tokenizer_object=tokenizer,
            pad_token=PAD,
            bos_token=START,
            eos_token=END,
            extra_special_tokens={"image_token": IMAGE},
        ),
        patch_size=PATCH,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=TEMPLATE,
    ).save_pretrained(folder)
    # Weights this large make the answer hang on every token and picture of the prompt.
    small = {"hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 2, "initializer_range": 0.5}
    model = LlavaForConditionalGeneration(
        LlavaConfig(
            vision_config=CLIPVisionConfig(**small, num_attention_heads=1, image_size=SIDE, patch_size=PATCH),
            text_config=LlamaConfig(
                **small,
                num_attention_heads=1,
                vocab_size=tokenizer.get_vocab_size(),
                max_position_embeddings=16384,
                pad_token_id=0,
                bos_token_id=1,
                eos_token_id=2,
            ),
            image_token_index=SPECIAL.index(IMAGE),
        )
    )
    if says:
        _script(model, [tokens.index("Ġ"), len(tokens), SPECIAL.index(END)])
    model.generation_config.update(pad_token_id=0, bos_token_id=1, eos_token_id=[2, *range(100, 99 + ends)])
    model.save_pretrained(folder)
    return folder


@torch.no_grad()
def _script(model: LlavaForConditionalGeneration, chain: list[int]) -> None:
    """Each token of the chain calls for the next, whatever came before."""
    for layer in model.model.language_model.layers:
        layer.self_attn.o_proj.weight.zero_()
        layer.mlp.down_proj.weight.zero_()
    model.lm_head.weight.zero_()
    for place, (token, following) in enumerate(pairwise(chain)):
        direction = torch.eye(model.config.text_config.hidden_size)[place]
        model.model.language_model.embed_tokens.weight[token] = direction
        model.lm_head.weight[following] = 100 * direction
