"""The JSON Schema of the policy file, generated from the model: `python -m proxy.config.schema`.

It is for editors, which read YAML 1.2: so figures may be numbers, and flags booleans. It cannot say all
that `load` says; whatever `load` takes, it takes.
"""

import json
import sys
from typing import Any

from proxy.config.file import PolicyFile


def policy_schema() -> dict[str, Any]:
    """JSON Schema, draft 2020-12."""
    schema: dict[str, Any] = _tidy(PolicyFile.model_json_schema())
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "Domicile policy"}


def written() -> str:
    """The text of docs/policy.schema.json."""
    return json.dumps(policy_schema(), indent=2, ensure_ascii=False) + "\n"


def _tidy(node: Any) -> Any:
    """Without what pydantic adds for Python: null where a key may be left out, titles made from names."""
    if isinstance(node, list):
        return [_tidy(each) for each in node]
    if not isinstance(node, dict):
        return node
    tidy = {key: _tidy(each) for key, each in node.items() if not _is_noise(key, each)}
    if "anyOf" in tidy:
        left = [each for each in tidy["anyOf"] if each != {"type": "null"}]
        if len(left) == 1:
            tidy.pop("anyOf")
            tidy = {**left[0], **tidy}
        else:
            tidy["anyOf"] = left
    return tidy


def _is_noise(key: str, value: Any) -> bool:
    return (key == "title" and isinstance(value, str)) or (
        key == "default" and not isinstance(value, str | int | float)
    )


if __name__ == "__main__":
    sys.stdout.write(written())
