"""Build, check and publish a release; without `--publish` it stops before the last step.

What it makes in `dist/`: the wheel and the sdist, built twice and compared byte for byte, and
`sbom.cdx.json`, a CycloneDX list of what `inngest-plugins[all]` installs, and
`provenance.intoto.json`, an in-toto statement (SLSA provenance 1.0) of the commit and the lock file
that the artefacts were built from. Publishing takes the credentials of uv (`UV_PUBLISH_TOKEN`, or
trusted publishing) and nothing else; where the machine has an OpenID Connect identity, as trusted
publishing has, each artefact also gets a signed attestation (PEP 740) beside it.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # pyright: ignore[reportMissingImports]

ROOT = Path(__file__).resolve().parent.parent
DIST = ROOT / "dist"
UV = shutil.which("uv") or str(ROOT / ".uv/bin/uv")
REPOSITORY = "https://github.com/inngest-plugins/inngest-plugins"
ALLOWED_IN_SDIST = re.compile(
    r"^(src|plugins)/.*|^(README|CHANGELOG)\.md$|^(LICENSE|PKG-INFO|pyproject\.toml|\.gitignore)$"
)


def run(*command: str) -> str:
    """Run a command in the checkout, and return what it printed."""
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    return done.stdout


def refuse(reason: str) -> None:
    """End with a reason."""
    raise SystemExit(f"release: {reason}")


def check_tree(version: str) -> None:
    """Check that what is released is what is committed, and that the changelog names it."""
    if run("git", "status", "--porcelain"):
        refuse("the working tree has changes; commit them first")
    changelog = (ROOT / "CHANGELOG.md").read_text()
    if not re.search(rf"^## \[?{re.escape(version)}\b", changelog, re.MULTILINE):
        refuse(f"CHANGELOG.md has no heading for {version}")


def build() -> list[Path]:
    """Build into `dist/` and, once more, elsewhere; return the artefacts when both agree."""
    shutil.rmtree(DIST, ignore_errors=True)
    run(UV, "build", "--quiet")
    made = sorted(DIST.glob("inngest_plugins-*"))
    with tempfile.TemporaryDirectory() as again:
        run(UV, "build", "--quiet", "--out-dir", again)
        for artefact in made:
            twin = Path(again) / artefact.name
            if digest(artefact) != digest(twin):
                refuse(f"{artefact.name} is not reproducible")
    return made


def digest(path: Path) -> str:
    """Return the SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def check_contents(artefacts: list[Path]) -> None:
    """Check that nothing but the packages is in the artefacts, and no path of a machine."""
    for artefact in artefacts:
        if artefact.suffix == ".whl":
            with zipfile.ZipFile(artefact) as archive:
                files = {name: archive.read(name) for name in archive.namelist()}
            strange = [
                name
                for name in files
                if not re.match(r"^inngest_plugins(/|-[^/]+\.dist-info/)", name)
            ]
        else:
            with tarfile.open(artefact) as archive:
                files = {
                    member.name.split("/", 1)[1]: extracted.read()
                    for member in archive.getmembers()
                    if (extracted := archive.extractfile(member)) is not None
                }
            strange = [name for name in files if not ALLOWED_IN_SDIST.match(name)]
        if strange:
            refuse(f"{artefact.name} holds {', '.join(sorted(strange)[:5])}")
        for name, content in files.items():
            if str(ROOT).encode() in content or str(Path.home()).encode() + b"/" in content:
                refuse(f"{name} in {artefact.name} names a path of this machine")


def write_sbom() -> None:
    """Write what `inngest-plugins[all]` installs, as locked."""
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as requirements:
        exported = run(
            UV, "export", "--frozen", "--quiet", "--no-dev", "--extra", "all", "--no-emit-project",
            "--no-hashes", "--no-annotate", "--no-header",
        )  # fmt: skip
        requirements.write(exported)
        requirements.flush()
        run(
            UV, "tool", "run", "--from", "cyclonedx-bom", "cyclonedx-py", "requirements",
            requirements.name, "--output-reproducible", "--of", "JSON",
            "-o", str(DIST / "sbom.cdx.json"),
        )  # fmt: skip


def write_provenance(artefacts: list[Path]) -> Path:
    """Write what the artefacts were built from; see https://slsa.dev/spec/v1.0/provenance."""
    sources = [
        {
            "uri": f"git+{REPOSITORY}",
            "digest": {"gitCommit": run("git", "rev-parse", "HEAD").strip()},
        },
        {"uri": f"{REPOSITORY}/blob/main/uv.lock", "digest": {"sha256": digest(ROOT / "uv.lock")}},
    ]
    statement = {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [
            {"name": artefact.name, "digest": {"sha256": digest(artefact)}}
            for artefact in artefacts
        ],
        "predicateType": "https://slsa.dev/provenance/v1",
        "predicate": {
            "buildDefinition": {
                "buildType": f"{REPOSITORY}/blob/main/.ci/release.py",
                "externalParameters": {"command": "make release"},
                "resolvedDependencies": sources,
            },
            "runDetails": {"builder": {"id": f"{REPOSITORY}/blob/main/.ci/release.py"}},
        },
    }
    path = DIST / "provenance.intoto.json"
    path.write_text(json.dumps(statement, indent=2) + "\n", "utf-8")
    return path


def attest(artefacts: list[Path]) -> None:
    """Sign each artefact with the identity of this machine, where it has one."""
    if "ACTIONS_ID_TOKEN_REQUEST_URL" in os.environ:
        run(UV, "tool", "run", "pypi-attestations", "sign", *map(str, artefacts))
    else:
        print("not attested: this machine has no OpenID Connect identity")


def main() -> int:
    """Run the steps."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--publish", action="store_true", help="upload to the package index")
    parser.add_argument("--allow-dirty", action="store_true", help="rehearse with changes")
    options = parser.parse_args()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    if not options.allow_dirty:
        check_tree(project["version"])
    artefacts = build()
    check_contents(artefacts)
    run(UV, "tool", "run", "twine", "check", "--strict", *map(str, artefacts))
    write_sbom()
    provenance = write_provenance(artefacts)
    for artefact in [*artefacts, DIST / "sbom.cdx.json", provenance]:
        print(f"{digest(artefact)}  {artefact.name}")
    if options.publish:
        attest(artefacts)
        run(UV, "publish", *map(str, artefacts))
        print(f"published {project['name']} {project['version']}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
