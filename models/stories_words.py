"""The names, places and things that the stories and chats of models/stories are made of.

stories_corpus.py and stories_tasks.py draw from these lists.
"""

GIRLS = "Mia Anna Lily Nora Ella Ruby Tara Zoe Ivy Rosa Emma Lucy Maya Nina Clara Hana Bella Dora".split()
BOYS = "Tom Ben Sam Leo Max Jack Finn Noah Theo Oscar Hugo Milo Felix Omar Ravi Otto Pip Gus".split()
HOMES = {
    "fox": "in a den under an old oak",
    "rabbit": "in a burrow near the meadow",
    "bear": "in a cave in the hills",
    "mouse": "behind the wall of a bakery",
    "owl": "in a hollow tree",
    "duck": "by a quiet pond",
    "frog": "on a lily leaf",
    "cat": "in a house with a red door",
    "dog": "on a small farm",
    "squirrel": "high up in a pine tree",
    "hedgehog": "under a pile of leaves",
    "turtle": "by a slow river",
    "bird": "in a nest above the road",
    "pony": "in a stable behind the mill",
    "penguin": "on a cold white shore",
    "elephant": "near a wide lake",
    "boy": "in a village by the sea",
    "girl": "in a house at the end of the street",
    "robot": "in a workshop full of lamps",
    "dragon": "on top of a green mountain",
}
MOODS = "little small young brave shy kind clever curious gentle cheerful quiet funny lazy careful proud".split()
COLORS = "red blue green yellow white black brown orange pink purple grey golden".split()
THINGS = "ball kite hat scarf drum bell boat book lamp key basket blanket spoon cup ring coat bag flute box umbrella".split()
FOODS = "apple pear cake pie carrot pancake cookie plum sandwich bun".split()
PLANTS = ["sunflower", "pumpkin", "rose bush", "bean plant", "apple tree", "tulip"]
PLACES = [
    "the forest",
    "the park",
    "the river",
    "the old bridge",
    "the market",
    "the garden",
    "the hill",
    "the beach",
    "the barn",
    "the meadow",
    "the lake",
    "the school",
]
SPOTS = [
    "under a bench",
    "behind a big stone",
    "in the tall grass",
    "between two roots",
    "under a bush",
    "on a low branch",
    "next to the well",
    "inside a hollow log",
]
SKILLS = ["swim", "whistle", "dance", "climb", "read", "ride a bike", "bake bread", "paint", "skate", "juggle", "sing"]
HOBBIES = [
    "sing in the morning",
    "count the clouds",
    "look at the stars",
    "collect smooth stones",
    "draw pictures in the sand",
    "run in the wind",
    "listen to old stories",
    "splash in puddles",
    "smell the flowers",
    "watch the boats",
]
ELDERS = ["grandmother", "grandfather", "mother", "father", "aunt", "uncle"]
NOISES = ["a soft scratch", "a loud bang", "a strange squeak", "a slow tap, tap, tap", "a low hum", "a long howl"]
NOISE_CAUSES = [
    "a branch that rubbed on the window",
    "the wind that played with the gate",
    "a tiny moth in the lamp",
    "a loose board on the roof",
    "a snail on the glass",
    "the old clock in the hall",
]
TREASURES = ["shiny stones", "old letters", "sweet candy", "silver coins", "tiny bells", "picture books"]
STUCK = ["in the deep mud", "at the top of a tall tree", "in a narrow hole", "on a rock in the river", "between two fence posts"]
HELP = ["a long rope", "a strong stick", "an old ladder", "a wooden board"]
MORALS = [
    "a friend is the best thing to find",
    "it is good to tell the truth",
    "sharing makes small things big",
    "being brave does not mean having no fear",
    "it is never too late to say sorry",
    "slow steps also reach the top",
    "a kind word costs nothing",
    "two can do more than one",
]
