"""Writes the JSON files of the models, laid out as the repository's formatter would, so that making them again changes nothing."""

import json
from pathlib import Path


def laid_out(value, indent: str = "") -> str:
    """Objects with a line per member; lists on one line unless they hold objects or lists."""
    deeper = indent + "  "
    if isinstance(value, dict) and value:
        members = [f"{deeper}{json.dumps(key, ensure_ascii=False)}: {laid_out(v, deeper)}" for key, v in value.items()]
        return "{\n" + ",\n".join(members) + f"\n{indent}}}"
    if isinstance(value, list) and any(isinstance(v, (dict, list)) for v in value):
        return "[\n" + ",\n".join(deeper + laid_out(v, deeper) for v in value) + f"\n{indent}]"
    if isinstance(value, list):
        return f"[{', '.join(laid_out(v, deeper) for v in value)}]"
    return json.dumps(value, ensure_ascii=False)


def write_json(file: Path, content) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(laid_out(content) + "\n")
