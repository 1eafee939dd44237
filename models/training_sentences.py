"""Free English text for make_sentence_embedding.py, split into what may be trained on and what is held out.

Sources: WordNet 3.0 (Debian's package `wordnet-base`): definitions, example sentences and words; and the prose in the
docstrings and the language reference that Python's standard library and the packages of requirements.txt carry. What is
held out is chosen by a hash of where the text comes from (a set of synonyms, a module), so neighbours stay together.
"""

import ast
import importlib.util
import re
import sysconfig
import zlib
from dataclasses import dataclass, field
from pathlib import Path

HELD_OUT_PERCENT = 6
PACKAGES = ["numpy", "scipy", "sklearn", "jax", "skimage", "onnx"]
PARTS_OF_SPEECH = ["noun", "verb", "adj", "adv"]
PROSE = re.compile(r"[A-Z][A-Za-z0-9 ,;:'()\-]+[.?!]")


@dataclass
class Texts:
    """Words are short queries for training only; sentences exist on both sides."""

    words: list[str] = field(default_factory=list)
    train: list[str] = field(default_factory=list)
    held: list[str] = field(default_factory=list)

    def add(self, sentence: str, origin: str) -> None:
        is_held = zlib.crc32(origin.encode()) % 100 < HELD_OUT_PERCENT
        (self.held if is_held else self.train).append(sentence)


def read_wordnet(folder: Path, texts: Texts) -> None:
    """Glosses are 'definition; "example"; "example"'; the lemmas before them are counted in hexadecimal."""
    for part in PARTS_OF_SPEECH:
        for line in (folder / f"data.{part}").read_text(encoding="latin-1").splitlines():
            if line.startswith("  ") or " | " not in line:
                continue
            facts, gloss = line.split(" | ", 1)
            fields = facts.split(" ")
            origin = f"{part}{fields[0]}"
            lemmas = fields[4 : 4 + 2 * int(fields[3], 16) : 2]
            texts.words.append(re.sub(r"\(.*\)", "", lemmas[0]).replace("_", " "))
            for example in re.findall(r'"([^"]+)"', gloss):
                texts.add(example.strip(), origin)
            definition = re.sub(r'"[^"]*"', "", gloss).strip(" ;-")
            if definition:
                texts.add(definition, origin)


def prose(text: str) -> list[str]:
    """Whole English sentences of 5 to 40 words; tables, code and markup fall through."""
    found = []
    for paragraph in re.split(r"\n\s*\n", text):
        for sentence in re.split(r"(?<=[.?!])\s+", " ".join(paragraph.split())):
            if PROSE.fullmatch(sentence) and 5 <= sentence.count(" ") + 1 <= 40:
                found.append(sentence)
    return found


def docstrings(file: Path) -> list[str]:
    try:
        tree = ast.parse(file.read_text(encoding="utf-8"))
    except (SyntaxError, UnicodeDecodeError, ValueError):
        return []
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    return [ast.get_docstring(node) or "" for node in ast.walk(tree) if isinstance(node, kinds)]


def read_documentation(texts: Texts) -> None:
    library = Path(sysconfig.get_paths()["stdlib"])
    roots = [library] + [Path(importlib.util.find_spec(name).origin).parent for name in PACKAGES]
    for root in roots:
        for file in sorted(root.rglob("*.py")):
            if "site-packages" in file.relative_to(root).parts or "tests" in file.parts or "test" in file.parts:
                continue
            for text in docstrings(file):
                for sentence in prose(text):
                    texts.add(sentence, f"{root.name}/{file.relative_to(root)}")
    from pydoc_data import topics

    for topic, text in topics.topics.items():
        for sentence in prose(text):
            texts.add(sentence, f"topic {topic}")


def read_texts(wordnet: Path) -> Texts:
    """Each sentence once; one that both sides have is held out only."""
    texts = Texts()
    read_wordnet(wordnet, texts)
    read_documentation(texts)
    held = sorted(set(texts.held))
    train = sorted(set(texts.train) - set(held))
    return Texts(sorted(set(texts.words)), train, held)
