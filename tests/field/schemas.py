"""Judges messages by docs/schemas with a validator that is not ours.

stdin: one JSON object per line, {"schema": "event", "at": "#/$defs/gap", "message": {...}}; `at` may be left out. stdout: one object,
{"good": n, "bad": [{"schema", "why", "message"}]}. Also reads docs/asyncapi.yaml and follows its references.
"""
import json
import pathlib
import sys

import jsonschema
import yaml

ROOT = pathlib.Path(__file__).parents[2] / "docs"


def schemas():
    return {path.stem: json.loads(path.read_text()) for path in sorted((ROOT / "schemas").glob("*.json"))}


def references(node):
    if isinstance(node, dict):
        for name, value in node.items():
            if name == "$ref":
                yield value
            else:
                yield from references(value)
    elif isinstance(node, list):
        for value in node:
            yield from references(value)


def asyncapi():
    """What docs/asyncapi.yaml refers to and is not there."""
    document = yaml.safe_load((ROOT / "asyncapi.yaml").read_text())
    for reference in references(document):
        path, _, inside = reference.partition("#")
        if path:
            if not (ROOT / path).exists():
                yield reference
            continue
        node = document
        for name in inside.strip("/").split("/"):
            node = node.get(name) if isinstance(node, dict) else None
        if node is None:
            yield reference


def main():
    known = schemas()
    for schema in known.values():
        jsonschema.Draft202012Validator.check_schema(schema)
    good, bad = 0, [{"schema": "asyncapi", "why": f"{r} leads nowhere", "message": None} for r in asyncapi()]
    validators = {}
    for line in sys.stdin:
        asked = json.loads(line)
        name, at = asked["schema"], asked.get("at")
        if (name, at) not in validators:
            schema = known[name] if at is None else {"$ref": at, "$defs": known[name]["$defs"]}
            validators[name, at] = jsonschema.Draft202012Validator(schema)
        found = [f"{'/'.join(map(str, e.absolute_path))}: {e.message}" for e in validators[name, at].iter_errors(asked["message"])]
        if found:
            bad.append({"schema": name, "why": found[0], "message": asked["message"]})
        else:
            good += 1
    print(json.dumps({"good": good, "bad": bad}))


main()
