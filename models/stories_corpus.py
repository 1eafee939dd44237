"""The stories that models/stories learns from: small plots with names, places, things and feelings drawn by a seeded generator.

make_stories.py and stories_tasks.py call it. All of the text here was written for this project, so what is made of it
has no other author. Templates: {slot} is filled in, (one|two|three) is one of the three, drawn anew each time.
"""

import random
import re

from stories_words import (
    GIRLS,
    BOYS,
    HOMES,
    MOODS,
    COLORS,
    THINGS,
    FOODS,
    PLANTS,
    PLACES,
    SPOTS,
    SKILLS,
    HOBBIES,
    ELDERS,
    NOISES,
    NOISE_CAUSES,
    TREASURES,
    STUCK,
    HELP,
    MORALS,
)

CHOICE = re.compile(r"\(([^()]*\|[^()]*)\)")
SLOT = re.compile(r"\{(\w+)\}")
AN = re.compile(r"\b([Aa]) (?=[aeiou])")

OPENINGS = [
    "(Once upon a time|Once|Long ago|One spring|One summer), there (was|lived) a {mood} {kind} named {name}. {name} lived {home}.",
    "{name} was a {mood} {kind} who lived {home}.",
    "There was once a {mood} {kind}. {His} name was {name}, and {he} lived {home}.",
]
HABITS = [
    "(Every day|Every morning|In the evening), {name} (liked|loved) to {hobby}.",
    "{He} had a {color} {thing} that {he} took everywhere.",
    "{Name} had a good friend, a {fkind} named {fname}.",
    "More than anything, {he} loved to {hobby}.",
]
# Each plot: what a request may call it, whether the hero's thing is what it is about, and its sentences.
PLOTS = [
    (
        "loses a {thing}",
        True,
        "One (day|morning), {name} could not find {his} {color} {thing}. {He} looked {spot}, but it was not there. {He} looked "
        "near {place}, but it was not there. {Name} (felt sad|began to cry|was very sad). Then a {fkind} named {fname} came by. "
        '"(What is wrong|Why are you sad), {name}?" asked {fname}. "I lost my {thing}," said {name}. "(Let us look together|I '
        'will help you)," said {fname}. They walked to {place2}, and there, {spot2}, was the {color} {thing}! {Name} (jumped for '
        'joy|laughed and danced). "Thank you, {fname}!" {he} said. (After that, {name} always kept the {thing} in a safe '
        "place.|From that day on, they were best friends.)",
    ),
    (
        "finds a {thing}",
        True,
        'One (day|afternoon), {name} went to {place} and saw a {color} {thing} {spot}. "(What a nice {thing}|How pretty)!" said '
        '{name}. {He} wanted to keep it. But then {he} saw a {fkind} named {fname}, who looked (sad|worried). "Have you seen my '
        '{thing}?" asked {fname}. "It is {color}." {Name} (thought for a moment|took a deep breath). "Yes," {he} said. "I found '
        'it {spot}. Here it is." {Fname} was so (happy|glad) that {fhe} gave {name} a big hug. They played with the {thing} '
        "until (the sun went down|it was dark).",
    ),
    (
        "learns to {skill}",
        False,
        "{Name} wanted to {skill}, but {he} did not know how. {He} tried on Monday, and it went wrong. {He} tried on Tuesday, "
        'and it went wrong again. "I will never learn it," said {name} and sat down {spot}. {His} {elder} (heard this and '
        'smiled|sat down next to {him}). "I could not {skill} at first," said the {elder}. "(Try a little every day|Take your '
        'time), and you will see." So {name} tried every day near {place}. One (morning|evening), it worked! {Name} could '
        '{skill}! {Fname} the {fkind} saw it and clapped. "Will you show me how to {skill}?" asked {fname}. "Yes," said {name}. '
        '"It takes time, but you can do it."',
    ),
    (
        "is caught in a storm",
        False,
        "One day, {name} walked to {place}. The sky grew dark, and (heavy rain began to fall|the wind began to blow|snow began "
        "to fall). {Name} was (cold and wet|far from home) and felt afraid. {He} ran to {place2} and hid {spot}. There {he} met "
        'a {fkind} named {fname}, who was hiding too. "Are you afraid of the storm?" asked {fname}. "A little," said {name}. '
        '"(We can wait together|Sit next to me)," said {fname}. {Name} had a {food} in {his} bag, and they shared it. They told '
        "each other (jokes|stories|riddles) until the storm was over. Then (a rainbow stood over {place}|the sun came out). "
        '"That was not so bad," said {name}.',
    ),
    (
        "shares a {food}",
        False,
        "One day, {name} had a big {food} for lunch. {He} sat down near {place} and was about to eat. Then a {fkind} named "
        '{fname} came along. {Fname} looked (thin and hungry|tired and hungry). "I have not eaten all day," said {fname}. {Name} '
        'looked at the {food}. {He} was hungry too. But {he} broke it into two parts and gave one to {fname}. "Thank you," said '
        "{fname}. (The next day|A week later), {name} fell down near {place2} and hurt {his} foot. Who came to help? It was "
        '{fname}! {Fname} (carried {name} home|helped {name} to walk home). "You shared with me," said {fname}. "Now I can help '
        'you."',
    ),
    (
        "meets a new friend",
        False,
        "One day, a {fkind} named {fname} moved to a new home near {place}. {Fname} knew nobody and (sat alone {spot}|did not "
        'speak). "{Fhe} looks lonely," thought {name}. So {name} went over with {his} {color} {thing}. "Hello! I am {name}. '
        'Would you like to play?" {he} asked. {Fname} looked at the {color} {thing} and (smiled a little|nodded). They played '
        "near {place} all (day|afternoon). {Name} showed {fname} {place2}, and {fname} showed {name} how to {skill}. In the "
        'evening, {fname} was not (lonely|shy) any more. "Will you come again tomorrow?" asked {fname}. "Of course," said '
        '{name}. "We are friends now."',
    ),
    (
        "hears a noise at night",
        False,
        'One night, {name} lay in bed and heard {noise}. {His} heart beat fast. "Who is there?" asked {name}. Nobody answered. '
        "{He} hid under the blanket, but there it was again: {noise}. {Name} took {his} {color} {thing} and went to wake {fname} "
        'the {fkind}. "There is something (outside|in the dark)," {he} said. "Then let us look," said {fname}. They (opened the '
        "door slowly|went on the tips of their toes). Step by step they went closer. And what was it? It was only {cause}! "
        "{Name} and {fname} laughed and laughed. Then they went back to bed, and {name} was not afraid any more.",
    ),
    (
        "plants a seed",
        False,
        'In spring, {name} found a small seed {spot}. "I wonder what it will be," said {name}. {He} planted it near {place} and '
        'gave it water every day. For a long time, nothing happened. "It is only a stone," said {fname} the {fkind}. But {name} '
        "did not give up. {He} watered it when it was (hot|dry), and {he} sang to it when it rained. One morning, a green leaf "
        "came out of the ground! It grew and grew, until it was a (big|beautiful) {plant}. Everybody came to see the {plant}. "
        '"You were right to wait," said {fname}. {Name} (smiled and was proud|gave {fname} a seed too).',
    ),
    (
        "runs a race",
        False,
        'There was a big race to {place}, and {name} wanted to win. {Fname} the {fkind} wanted to win too. "Ready, steady, go!" '
        "called the {elder} of {fname}. {Name} ran as fast as {he} could, and {fname} ran just behind. Near {place2}, {fname} "
        'fell over a stone. "Ouch!" cried {fname}. {Name} stopped. {He} could see the end of the race, but {he} turned around. '
        '"(Take my hand|Lean on me)," said {name}. They went on side by side, and they came to the end at the same time. The '
        '{elder} gave them one {color} {thing} as a prize, and they shared it. "You could have won," said {fname}. "(We both '
        'won|This is better)," said {name}.',
    ),
    (
        "saves a friend",
        False,
        'One day, {name} heard a cry near {place}. "Help! Help!" It was {fname} the {fkind}, who was stuck {stuck}. "(Do not be '
        'afraid|Hold on), {fname}! I will get you out," called {name}. {He} pulled, but {he} was not strong enough. So {name} '
        'ran to {place2} as fast as {he} could and came back with {help}. "Hold this!" {he} said. {Name} pulled (once, twice, '
        'three times|with all {his} strength). Pop! {Fname} was free. "You saved me," said {fname}. "You would do the same for '
        'me," said {name}. Then they (went home and ate a warm {food}|walked home and sang a song).',
    ),
    (
        "makes a gift",
        False,
        'It was the birthday of {fname} the {fkind}. {Name} wanted to give {fhim} a gift, but {he} had no money. "What can I '
        'do?" {he} asked {his} {elder}. "(Make something yourself|The best gifts are made by hand)," said the {elder}. So {name} '
        "went to {place} and found some wood and some wool. {He} worked all (night|day), and {he} made a {color} {thing}. It was "
        "not perfect. One side was too long, and it was a little bent. {Name} was worried. But when {fname} opened the box, "
        '{fhe} (laughed with joy|smiled from ear to ear). "A {color} {thing}! It is the best gift of all," said {fname}, '
        '"because you made it for me."',
    ),
    (
        "has a fight with a friend",
        True,
        '{Name} and {fname} the {fkind} found a {color} {thing} near {place}. "I saw it first!" said {name}. "No, I saw it '
        'first!" said {fname}. {Name} pulled on one side, and {fname} pulled on the other side. Crack! The {thing} broke. Now '
        "both of them were (sad|angry). {Name} went home and sat {spot}. {He} could not stop thinking of {fname}. In the "
        'evening, {name} went to {fname} and said, "I am sorry." "I am sorry too," said {fname}. They mended the {thing} '
        "together with (glue|thread|string). It was not as (nice|shiny) as before, but now it was theirs, and they took turns "
        "with it.",
    ),
    (
        "finds a map",
        False,
        "One day, {name} found an old map {spot}. It showed the way to a treasure! {Name} showed it to {fname} the {fkind}, and "
        "they set off at once. First they came to {place}. Then they went past {place2}. The way was long, and {fname} was "
        'tired. "Let us go home," said {fname}. "Only a little more," said {name}. At last they found a {color} box {spot2}. '
        "{Name} opened it with (care|both hands). It was full of {treasure}! They took the box home and gave some {treasure} to "
        "everybody they knew. But {name} kept the map, because the walk had been the best part.",
    ),
    (
        "makes a wish",
        False,
        'One night, {name} saw a star fall near {place}. "I wish I could {skill}," said {name}. The next morning, {he} went '
        'there to look. There was no star, but {spot} sat a {fkind} named {fname}. "Did you see the star?" asked {name}. "Yes," '
        'said {fname}. "I wished for a friend." "And I wished that I could {skill}," said {name}. {Fname} laughed. "I can '
        '{skill}! I can teach you." So {fname} taught {name} every (day|morning) near {place2}. Soon {name} could {skill}, and '
        "{fname} had a friend. And so both wishes came true.",
    ),
]
ENDINGS = [
    "That (night|evening), {name} went to sleep with a smile.",
    "{Name} was very (happy|proud|glad).",
    "And {name} never forgot that day.",
    "From then on, {name} knew that {moral}.",
    "{Name} learned that {moral}.",
    "The end.",
]


def choose(text: str, rng: random.Random) -> str:
    """Takes one of every (one|two), inner ones first."""
    while CHOICE.search(text):
        text = CHOICE.sub(lambda match: rng.choice(match.group(1).split("|")), text)
    return text


def fill(text: str, slots: dict[str, str]) -> str:
    """Puts the slots in and makes an "an" of an "a" before a vowel."""
    return AN.sub(r"\1n ", SLOT.sub(lambda match: slots[match.group(1)], text))


def person(rng: random.Random, kind: str) -> tuple[str, str, str, str]:
    """A name with its pronouns: (name, he, his, him)."""
    female = kind == "girl" or (kind != "boy" and rng.random() < 0.5)
    return (rng.choice(GIRLS), "she", "her", "her") if female else (rng.choice(BOYS), "he", "his", "him")


def draw_slots(rng: random.Random) -> dict[str, str]:
    """The people, places and things of one story."""
    kind, other = rng.sample(list(HOMES), 2)
    name, he, his, him = person(rng, kind)
    friend, friend_he, _, friend_him = person(rng, other)
    while friend == name:
        friend, friend_he, _, friend_him = person(rng, other)
    place, place2 = rng.sample(PLACES, 2)
    spot, spot2 = rng.sample(SPOTS, 2)
    lists = {
        "mood": MOODS,
        "color": COLORS,
        "thing": THINGS,
        "food": FOODS,
        "plant": PLANTS,
        "skill": SKILLS,
        "hobby": HOBBIES,
        "elder": ELDERS,
        "noise": NOISES,
        "cause": NOISE_CAUSES,
        "treasure": TREASURES,
        "stuck": STUCK,
        "help": HELP,
        "moral": MORALS,
    }
    slots = {key: rng.choice(values) for key, values in lists.items()}
    slots |= {
        "kind": kind,
        "home": HOMES[kind],
        "name": name,
        "he": he,
        "his": his,
        "him": him,
        "fkind": other,
        "fname": friend,
        "fhe": friend_he,
        "fhim": friend_him,
        "place": place,
        "place2": place2,
        "spot": spot,
        "spot2": spot2,
    }
    slots |= {key.capitalize(): slots[key][0].upper() + slots[key][1:] for key in ("he", "his", "name", "fname", "fhe")}
    return slots


def story(rng: random.Random) -> tuple[str, dict[str, str]]:
    """One story, and what a request for it may name: kind, name, mood, topic, and thing where it is about one."""
    slots = draw_slots(rng)
    topic, about_thing, plot = rng.choice(PLOTS)
    habit = rng.choice(HABITS)
    if about_thing and "{thing}" in habit:
        habit = HABITS[0]
    ending = " ".join(rng.sample(ENDINGS[:5], 1) + (ENDINGS[5:] if rng.random() < 0.4 else []))
    text = fill(choose(" ".join([rng.choice(OPENINGS), habit, plot, ending]), rng), slots)
    about = {key: slots[key] for key in ("kind", "name", "mood")} | {"topic": fill(topic, slots)}
    if about_thing:
        about["thing"] = f"{slots['color']} {slots['thing']}"
    return text, about
