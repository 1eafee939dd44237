"""Makes tiny decoders of every family that the server names, exports them with the real tools, and writes what Python answers.

Run: OMP_NUM_THREADS=1 python test/interop/generative/make_families.py <directory>
The directory then has one folder per exported model with expected.json in it (see expected.py), and index.json: what there is,
and what could not be made and why. It is made once; again only when these files or the tools' versions change.
"""

import hashlib
import json
import logging
import os
import shutil
import sys
import time
import warnings
from importlib.metadata import version
from pathlib import Path

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
warnings.filterwarnings("ignore")

import torch  # noqa: E402
from transformers import AutoTokenizer  # noqa: E402
from transformers.utils import logging as transformers_logging  # noqa: E402

from expected import onnx_answers, prompts_of, torch_answers, write_expected  # noqa: E402
from exports import export  # noqa: E402
from families import FAMILIES, Family, make_source  # noqa: E402

TOOLS = ["torch", "transformers", "tokenizers", "optimum", "optimum-onnx", "onnx", "onnxruntime", "onnxruntime-genai"]


def stamp() -> str:
    """Changes when these files or the tools do."""
    digest = hashlib.sha256(" ".join(f"{tool} {version(tool)}" for tool in TOOLS).encode())
    here = Path(__file__).resolve().parent
    for file in [*sorted(here.glob("*.py")), *sorted((here.parents[2] / "models").glob("stories_[cw]or*.py"))]:
        digest.update(file.read_bytes())
    return digest.hexdigest()


def make_family(family: Family, target: Path, mark: str) -> tuple[list[dict], list[dict]]:
    """Makes all exports of a family: what there is now, and what failed. What an earlier, interrupted run made is kept."""
    kept = [
        json.loads(file.read_text())
        for name in family.exports
        if (file := target / f"{family.name}-{name}" / "made.json").exists()
    ]
    if len(kept) == len(family.exports) and all(entry.pop("stamp") == mark for entry in kept):
        return kept, []
    source = target / "sources" / family.name
    shutil.rmtree(source, ignore_errors=True)
    make_source(family, source)
    prompts = prompts_of(AutoTokenizer.from_pretrained(source))
    ids = [prompt["ids"] for prompt in prompts]
    greedy, least = torch_answers(source, ids)
    variety = min(len(set(answer)) for answer in greedy)
    print(
        f"{family.name}: likeliest and next at least {least:.4f} apart, at least {variety} different tokens in an answer",
        flush=True,
    )
    made, missing = [], []
    for kind in family.exports:
        name = f"{family.name}-{kind}"
        began, folder, part = time.time(), target / name, target / "sources" / name
        for old in (folder, part):
            shutil.rmtree(old, ignore_errors=True)
        try:
            export(source, kind, part)
            answers = onnx_answers(part, ids)
        except Exception as error:  # The tools raise what they like; the reason belongs in the list.
            missing.append({"name": name, "reason": f"{type(error).__name__}: {error}"})
            print(f"{name}: MISSING, {missing[-1]['reason']}", flush=True)
            continue
        same = sum(answer == wanted for answer, wanted in zip(answers, greedy, strict=True))
        exact = kind.endswith(("fp32", "external"))
        # One scale for all activations of a run: what a row answers then depends on the rows beside it.
        alone = kind == "optimum-int8"
        head = {
            "family": family.name,
            "export": kind,
            "reference": "PyTorch" if exact else "ONNX Runtime, this file, one sequence at a time",
            "only_alone": alone,
        }
        write_expected(part, head, prompts, greedy if exact else answers)
        entry = {
            "name": name,
            "family": family.name,
            "export": kind,
            "exact": exact,
            "only_alone": alone,
            "onnx_equals_torch": same,
        }
        (part / "made.json").write_text(json.dumps(entry | {"stamp": mark}))
        part.rename(folder)
        made.append(entry)
        print(f"{name}: {same} of {len(ids)} as PyTorch, {time.time() - began:.1f} s", flush=True)
    return made, missing


def main() -> None:
    """Makes what is not there yet."""
    target = Path(sys.argv[1])
    target.mkdir(parents=True, exist_ok=True)
    index, mark = target / "index.json", stamp()
    if index.exists() and json.loads(index.read_text())["stamp"] == mark:
        print(f"{target} is made already")
        return
    torch.set_num_threads(1)
    transformers_logging.set_verbosity_error()
    logging.disable(logging.WARNING)
    index.unlink(missing_ok=True)
    made, missing, began = [], [], time.time()
    for family in FAMILIES:
        done, failed = make_family(family, target, mark)
        made, missing = made + done, missing + failed
    shutil.rmtree(target / "sources")
    index.write_text(json.dumps({"stamp": mark, "models": made, "missing": missing}, indent=1))
    print(f"{len(made)} models in {time.time() - began:.0f} s, {len(missing)} missing")


if __name__ == "__main__":
    main()
