"""Checks every crate that is built: its licence against deny.toml, its version against tests/advisories.toml.

Needs `cargo metadata` alone, so the policy holds where cargo-deny is not installed or cannot reach its database. What
this does not do, and cargo-deny does: newer advisories, duplicates, licence texts that differ from what a crate declares.
"""
import json
import re
import subprocess
import sys
import tomllib

policy = tomllib.load(open("deny.toml", "rb"))["licenses"]
advisories = tomllib.load(open("tests/advisories.toml", "rb"))["advisory"]
allowed = set(policy["allow"])
exceptions = {e["crate"]: set(e["allow"]) for e in policy.get("exceptions", [])}


def permitted(expression, extra):
    """Evaluates an SPDX expression: OR needs one side, AND both; WITH names one licence with its exception."""
    words = re.findall(r"\(|\)|[^\s()]+", expression.replace("/", " OR "))

    def either():
        result = both()
        while words and words[0] == "OR":
            words.pop(0)
            result = both() or result
        return result

    def both():
        result = one()
        while words and words[0] == "AND":
            words.pop(0)
            result = one() and result
        return result

    def one():
        word = words.pop(0)
        if word == "(":
            result = either()
            words.pop(0)
            return result
        if words and words[0] == "WITH":
            words.pop(0)
            word += " WITH " + words.pop(0)
        return word in allowed or word in extra

    return either()


version = subprocess.check_output(["rustc", "-vV"], text=True)
host = re.search(r"^host: (.*)$", version, re.M)[1]
command = ["cargo", "metadata", "--locked", "--format-version", "1", "--filter-platform", host]
metadata = json.loads(subprocess.check_output(command))
built = {node["id"] for node in metadata["resolve"]["nodes"]}
packages = [p for p in metadata["packages"] if p["id"] in built]


def number(version):
    return [int(part) for part in re.findall(r"\d+", version.split("-")[0])]


wrong = []
for package in packages:
    name, version = package["name"], package["version"]
    licence = package["license"] or f"(file {package['license_file']})"
    if not permitted(licence, exceptions.get(name, set())):
        wrong.append(f"{name} {version}: licence {licence} is not allowed by deny.toml")
    for advisory in advisories:
        if name == advisory["crate"] and ("below" not in advisory or number(version) < number(advisory["below"])):
            wrong.append(f"{name} {version}: {', '.join(advisory['id'])}, {advisory['about']}")
if wrong:
    sys.exit("\n".join(wrong))
print(f"{len(packages)} crates: licences allowed by deny.toml, none in tests/advisories.toml")
