"""The chats that models/stories learns from: short tasks whose answers can be checked, and requests for stories.

make_stories.py calls it. A prompt whose CRC-32 is a multiple of HELD_OUT is never trained on; accuracies are measured on those.
All of the text here was written for this project.
"""

import random
import string
import zlib

from stories_corpus import choose, fill, story
from stories_words import BOYS, COLORS, FOODS, GIRLS, HOMES, THINGS

HELD_OUT = 8
NAMES = GIRLS + BOYS
WORDS = COLORS + THINGS + FOODS + list(HOMES) + "sun moon star rain snow wind tree leaf road river sea fish egg milk".split()
COUNT_TO = 20
STORY_LEAST_WORDS = 60

ADD = [
    "What is {a} plus {b}?",
    "How much is {a} plus {b}?",
    "Add {a} and {b}.",
    "Please add {a} and {b}.",
    "{a} + {b}?",
    "What is {a} + {b}?",
    "What do you get if you add {a} and {b}?",
    "Can you tell me what {a} plus {b} is?",
    "Compute {a} + {b}.",
    "What is the sum of {a} and {b}?",
]
COUNT = ["Count to {n}.", "Please count to {n}.", "Can you count to {n}?", "Count from 1 to {n}.", "Count up to {n}, please."]
COUNT_FROM = ["Count from {m} to {n}.", "Please count from {m} to {n}.", "Can you count from {m} to {n}?"]
COPY = [
    "Repeat: {text}",
    "Repeat after me: {text}",
    "Say this: {text}",
    "Copy this: {text}",
    "Please repeat: {text}",
    "Say: {text}",
]
STORY = [
    "Tell me a story about a {kind}.",
    "Tell me a story about a {mood} {kind}.",
    "Write a story about a {kind} named {name}.",
    "Tell me a story about {name} the {kind}.",
    "Please tell me a story about a {kind}.",
    "Can you tell me a story about a {kind}?",
    "Write a short story about a {kind} who {topic}.",
    "Tell me a story about a {mood} {kind} named {name}.",
    "Tell me a story about {name}.",
    "I would like a story about a {kind}.",
    "Tell me a story.",
    "Write a story about a {mood} {kind} who {topic}.",
]
STORY_THING = ["Tell me a story about a {thing}.", "Tell me a story about a {kind} and a {thing}."]
TALK = [
    ("(Hello|Hi|Hello there|Good morning|Hi there)(!|.)", "Hello! What shall we do? I can tell a story, count, add and repeat."),
    ("(Who|What) are you?", "I am a small language model. I like to tell stories."),
    ("What can you do?", "I can tell stories, count, add small numbers, repeat words and remember what you tell me."),
    ("(Thank you|Thanks|Thanks a lot|Thank you very much)(!|.)", "You are welcome!"),
    ("(Goodbye|Bye|See you|Good night)(!|.)", "Goodbye! Come back for another story."),
    ("How are you?", "I am well, thank you. Would you like a story?"),
]
SYSTEM = [
    "You are a (kind|helpful|friendly|cheerful) (assistant|storyteller|teacher|helper).",
    "Answer (in short sentences|briefly|politely|with care).",
    "You (talk|speak) to (children|a child|a guest|a friend).",
    "(Be|Stay) (kind|calm|polite|friendly).",
    "You tell (short|nice|good) stories.",
    "Do not (shout|hurry|guess).",
    "If you do not know something, say so.",
    "You work in (a library|a school|a small shop|a museum).",
]


def addition(rng: random.Random) -> tuple[str, str]:
    """A sum of two digits."""
    a, b = rng.randrange(10), rng.randrange(10)
    return rng.choice(ADD).format(a=a, b=b), f"{a} plus {b} is {a + b}."


def counting(rng: random.Random) -> tuple[str, str]:
    """From one number to another, none above COUNT_TO."""
    if rng.random() < 0.6:
        first, last = 1, rng.randint(2, COUNT_TO)
        prompt = rng.choice(COUNT).format(n=last)
    else:
        first = rng.randint(1, COUNT_TO - 1)
        last = rng.randint(first + 1, min(COUNT_TO, first + 12))
        prompt = rng.choice(COUNT_FROM).format(m=first, n=last)
    return prompt, ", ".join(str(number) for number in range(first, last + 1)) + "."


def copying(rng: random.Random) -> tuple[str, str]:
    """One to eight words or numbers, one text in three with words that are none."""

    def word() -> str:
        if rng.random() < 0.1:
            return str(rng.randrange(1000))
        if made_up:
            return "".join(rng.choice(string.ascii_lowercase) for _ in range(rng.randint(2, 6)))
        return rng.choice(WORDS + NAMES)

    made_up = rng.random() < 0.33
    text = " ".join(word() for _ in range(rng.randint(1, 8))) + rng.choice(["", "", ".", "!"])
    return rng.choice(COPY).format(text=text), text


def recall(rng: random.Random) -> tuple[str, str]:
    """One to four sentences, each person with a thing of a colour, and a question about one of them."""
    count = rng.randint(1, 4)
    facts = list(zip(rng.sample(NAMES, count), rng.sample(COLORS, count), rng.sample(THINGS, count), strict=True))
    text = " ".join(fill("{name} has a {color} {thing}.", {"name": n, "color": c, "thing": t}) for n, c, t in facts)
    name, color, thing = rng.choice(facts)
    slots = {"name": name, "color": color, "thing": thing}
    question, answer = rng.choice(
        [
            ("What color is the {thing}?", "The {thing} is {color}."),
            ("Which color is the {thing}?", "The {thing} is {color}."),
            ("What does {name} have?", "{name} has a {color} {thing}."),
            ("Who has the {thing}?", "{name} has the {thing}."),
            ("Who has the {color} {thing}?", "{name} has the {color} {thing}."),
            ("What color is the {thing} of {name}?", "The {thing} of {name} is {color}."),
        ]
    )
    return f"{text} {fill(question, slots)}", fill(answer, slots)


def story_request(rng: random.Random) -> tuple[str, str]:
    """A request that names something of a story, and the story."""
    text, about = story(rng)
    requests = STORY_THING if "thing" in about and rng.random() < 0.3 else STORY
    return fill(rng.choice(requests), about), text


def talk(rng: random.Random) -> tuple[str, str]:
    """A greeting and the like."""
    prompt, answer = rng.choice(TALK)
    return choose(prompt, rng), answer


TASKS = {"addition": addition, "counting": counting, "copying": copying, "recall": recall, "story": story_request}
SHARES = {"addition": 0.16, "counting": 0.18, "copying": 0.24, "recall": 0.24, "story": 0.15, "talk": 0.03}


def is_held_out(prompt: str) -> bool:
    """Whether a prompt is kept for measuring."""
    return zlib.crc32(prompt.encode()) % HELD_OUT == 0


def draw(task: str, rng: random.Random, held_out: bool = False) -> tuple[str, str]:
    """A prompt of a task with its answer, from the held-out ones or from the others."""
    if task == "talk":
        return talk(rng)
    while True:
        prompt, answer = TASKS[task](rng)
        if is_held_out(prompt) == held_out:
            return prompt, answer


def chat(rng: random.Random, shares: dict[str, float] = SHARES) -> list[dict[str, str]]:
    """One to five turns of different tasks, one chat in three with a system message, one in eight with a name to remember."""
    messages = []
    if rng.random() < 0.33:
        sentences = [choose(sentence, rng) for sentence in rng.sample(SYSTEM, rng.randint(1, len(SYSTEM)))]
        messages.append({"role": "system", "content": " ".join(sentences)})
    turns = [draw(task, rng) for task in rng.choices(list(shares), list(shares.values()), k=rng.choice([1, 1, 1, 2, 3, 5]))]
    if rng.random() < 0.125:
        name = rng.choice(NAMES)
        turns.insert(
            0,
            (rng.choice(["My name is {}.", "I am {}.", "Hello, I am {}.", "Hi, my name is {}."]).format(name), f"Hello, {name}!"),
        )
        turns.append((rng.choice(["What is my name?", "Who am I?", "Do you remember my name?"]), f"Your name is {name}."))
    for prompt, answer in turns:
        messages.append({"role": "user", "content": loosen(prompt, rng)})
        messages.append({"role": "assistant", "content": answer})
    return messages


def loosen(prompt: str, rng: random.Random) -> str:
    """Types one prompt in eight as people do: without a capital, or without the mark at its end."""
    if rng.random() >= 0.125 or ":" in prompt:
        return prompt
    shorter = prompt.rstrip(".?!") if rng.random() < 0.7 else prompt
    return shorter[0].lower() + shorter[1:] if rng.random() < 0.5 else shorter
