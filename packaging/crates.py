"""What is built into the program: the software bill of materials (CycloneDX 1.5) and the licences with their texts.

Everything comes from Cargo.lock and the sources that cargo has fetched, so the same sources give the same bytes.
"""
import hashlib
import json
import re
import subprocess
import tomllib
import uuid
from datetime import datetime, timezone
from pathlib import Path

# Texts that a licence asks to go along; by the beginning of their names.
TEXTS = re.compile(r"(LICEN[CS]E|COPYING|COPYRIGHT|NOTICE|UNLICENSE)", re.I)


class Crates:
    def __init__(self, root, target, environment):
        command = ["cargo", "metadata", "--locked", "--format-version", "1", "--filter-platform", target]
        data = json.loads(subprocess.check_output(command, cwd=root, env=environment))
        self.packages = {p["id"]: p for p in data["packages"]}
        self.nodes = {n["id"]: n for n in data["resolve"]["nodes"]}
        self.root = data["resolve"]["root"]
        locked = tomllib.loads((root / "Cargo.lock").read_text())["package"]
        self.hashes = {(p["name"], p["version"]): p["checksum"] for p in locked if "checksum" in p}
        self.linked, self.built = self.walk()

    def walk(self):
        """Ids of what ends up in the program, and of what only runs while it is built."""
        linked, built = set(), set()
        waiting = [(self.root, True)]
        while waiting:
            which, into = waiting.pop()
            if which in linked or (not into and which in built):
                continue
            (linked if into else built).add(which)
            for dependency in self.nodes[which]["deps"]:
                kinds = {k["kind"] for k in dependency["dep_kinds"]}
                if kinds <= {"dev"}:
                    continue
                to = self.packages[dependency["pkg"]]
                macro = any("proc-macro" in t["kind"] for t in to["targets"])
                waiting.append((dependency["pkg"], into and None in kinds and not macro))
        return linked, built - linked

    def named(self, ids):
        return sorted((self.packages[i] for i in ids), key=lambda p: (p["name"], p["version"]))

    def third_party(self):
        return [p for p in self.named(self.linked) if p["id"] != self.root]

    def sqlite(self):
        """The C library inside libsqlite3-sys: scanners look for it under its own name."""
        for package in self.named(self.linked):
            if package["name"] == "libsqlite3-sys":
                header = Path(package["manifest_path"]).parent / "sqlite3/sqlite3.h"
                return re.search(r'#define SQLITE_VERSION\s+"([^"]+)"', header.read_text(errors="replace"))[1]
        return None


def bill(crates, version, epoch):
    """CycloneDX. What is only needed for building is `excluded`: it is in the bill, not in the program."""

    def ref(package):
        return f"pkg:cargo/{package['name']}@{package['version']}"

    def component(package, scope):
        key = (package["name"], package["version"])
        entry = {"type": "library", "bom-ref": ref(package), "name": key[0], "version": key[1], "scope": scope, "purl": ref(package)}
        if key in crates.hashes:
            entry["hashes"] = [{"alg": "SHA-256", "content": crates.hashes[key]}]
        if package["license"]:
            entry["licenses"] = [{"expression": package["license"].replace("/", " OR ")}]
        if package["repository"]:
            entry["externalReferences"] = [{"type": "vcs", "url": package["repository"]}]
        return entry

    own = crates.packages[crates.root]
    components = [component(p, "required") for p in crates.third_party()]
    components += [component(p, "excluded") for p in crates.named(crates.built)]
    edges = []
    within = crates.linked | crates.built
    for package in crates.named(within):
        to = sorted({ref(crates.packages[d["pkg"]]) for d in crates.nodes[package["id"]]["deps"]
                     if d["pkg"] in within and {k["kind"] for k in d["dep_kinds"]} != {"dev"}})
        edges.append({"ref": ref(package), "dependsOn": to})
    sqlite = crates.sqlite()
    if sqlite:
        purl = f"pkg:generic/sqlite@{sqlite}"
        components.append({"type": "library", "bom-ref": purl, "name": "sqlite", "version": sqlite, "scope": "required",
                           "purl": purl, "cpe": f"cpe:2.3:a:sqlite:sqlite:{sqlite}:*:*:*:*:*:*:*",
                           "licenses": [{"license": {"name": "public domain"}}]})
        edges.append({"ref": purl, "dependsOn": []})
        next(e for e in edges if e["ref"].startswith("pkg:cargo/libsqlite3-sys@"))["dependsOn"].append(purl)
    body = {
        "metadata": {
            "timestamp": datetime.fromtimestamp(epoch, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "component": {"type": "application", "bom-ref": ref(own), "name": own["name"], "version": version,
                          "licenses": [{"expression": own["license"]}], "purl": ref(own)},
        },
        "components": components,
        "dependencies": edges,
    }
    # A serial number is to differ when the content does, and only then.
    serial = uuid.uuid5(uuid.NAMESPACE_URL, "fieldgate " + hashlib.sha256(json.dumps(body).encode()).hexdigest())
    head = {"bomFormat": "CycloneDX", "specVersion": "1.5", "serialNumber": f"urn:uuid:{serial}", "version": 1}
    return json.dumps(head | body, indent=1) + "\n"


def licences(crates, static):
    """Each crate with its licence and place, then every text once, with the crates that it goes with."""
    texts = {}
    lines = ["What is built into fieldgate, besides fieldgate itself. Each crate with its licence and where its sources are;",
             "then the texts of the licences, each once, with the crates that carry it.", ""]
    for package in crates.third_party():
        name = f"{package['name']} {package['version']}"
        lines.append(f"{name}: {package['license'] or 'see its text'}; {package['repository'] or package['homepage'] or '-'}")
        folder = Path(package["manifest_path"]).parent
        for file in sorted(f for f in folder.iterdir() if f.is_file() and TEXTS.match(f.name)):
            text = file.read_text(errors="replace").replace("\r\n", "\n").strip()
            key = " ".join(text.split())
            texts.setdefault(key, (text, []))[1].append(name)
    sqlite = crates.sqlite()
    if sqlite:
        lines.append(f"SQLite {sqlite}: public domain; part of libsqlite3-sys")
    lines.append("the standard library of Rust: MIT OR Apache-2.0; https://github.com/rust-lang/rust")
    if static:
        lines.append("musl, the C library: MIT; https://musl.libc.org")
    lines += ["", "serialport is under the Mozilla Public License 2.0: its sources, unchanged here, are at the place named above."]
    for text, names in sorted(texts.values(), key=lambda t: t[1]):
        lines += ["", "=" * 78, ", ".join(names), "=" * 78, "", text]
    return "\n".join(lines) + "\n"
