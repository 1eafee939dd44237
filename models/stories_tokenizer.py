"""The tokenizer of models/stories: byte-level BPE with digits apart, learnt from what the generators write.

make_stories.py calls it. Every byte is in the vocabulary, so every text has tokens; the first ids are the special tokens.
"""

import random
from collections.abc import Iterator

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

from stories_corpus import story
from stories_tasks import chat

SPECIAL = ["<|endoftext|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>"]
SEED = 3
STORIES, CHATS = 6000, 3000
# Apart from what the training draws, so that the vocabulary stays when that changes.
SHARES = {"addition": 0.24, "counting": 0.12, "copying": 0.22, "recall": 0.22, "story": 0.16, "talk": 0.04}
# What a chat becomes; the roles are the special tokens' names.
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] not in ['system', 'user', 'assistant'] %}"
    "{{ raise_exception('the roles of a chat are system, user and assistant, not ' + message['role']) }}"
    "{% endif %}"
    "{{ '<|' + message['role'] + '|>' + (message['content'] | trim) + '<|end|>' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


def train_tokenizer(vocab: int) -> Tokenizer:
    """The same tokenizer each time: texts and seed are fixed."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab,
        special_tokens=[AddedToken(text, special=True, normalized=False) for text in SPECIAL],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts(), trainer)
    return tokenizer


def texts() -> Iterator[str]:
    """What it learns from."""
    rng = random.Random(SEED)
    for _ in range(STORIES):
        yield story(rng)[0]
    for _ in range(CHATS):
        yield from (message["content"] for message in chat(rng, SHARES))
