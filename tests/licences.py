"""Checks the licence of every crate that is built against deny.toml, from `cargo metadata` alone.

The same allow list and exceptions that cargo-deny reads, so the policy holds where that tool is not installed. What this
does not do, and cargo-deny does: advisories, duplicates, and licence texts that differ from what a crate declares.
"""
import json
import re
import subprocess
import sys
import tomllib

policy = tomllib.load(open("deny.toml", "rb"))["licenses"]
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
wrong = []
for package in metadata["packages"]:
    if package["id"] in built:
        licence = package["license"] or f"(file {package['license_file']})"
        if not permitted(licence, exceptions.get(package["name"], set())):
            wrong.append(f"{package['name']} {package['version']}: {licence}")
if wrong:
    sys.exit("licences that deny.toml does not allow:\n  " + "\n  ".join(wrong))
print(f"licences of {len(built)} crates are allowed by deny.toml")
