"""A folder that looks like a clone of the repository after its set-up, for commands of the documents to run in.

Three things are not as in a clone, so that documents can be run beside anything else on the machine:

- Ports that the documents and examples name are exchanged for free ones, in commands, in files, and back in output.
- A policy that says nothing of `admin` gets the default written out, since that is such a port too.
- `make test` runs one quick folder of tests, by ARGS: a suite that runs itself would never end.
"""

import hashlib
import os
import re
import shutil
import sys
import sysconfig
import time
from pathlib import Path

from tests.authority import make_authority
from tests.docs.blocks import ROOT
from tests.identity.mmdb_files import mmdb
from tests.identity.tokens import ed_jwk, key_set
from tests.peers.process import free_port

_COPIED = ("proxy", "config", "deploy", "docs", "Makefile", "pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md")
_LINKED = ("tests", "benchmarks", ".ci")

_PORTS = (8080, 8443, 8444, 9000, 9001, 9400)
_PORT = re.compile(r"(?<![\w.])(" + "|".join(map(str, _PORTS)) + r")(?![\w.])")

_ADMIN = '\nadmin: {bind: "127.0.0.1:9400"}\n'

SETTINGS = {
    "ACCOUNTS_TOKEN": "a-key",
    "CT_API_KEY": "a-key",
    "CT_KEY": "a-key",
    "EDGE_CERTIFICATE": "edge.pem",
    "EDGE_KEY": "edge.key",
    "PG_PASSWORD": "a-key",
    "VALKEY_PASSWORD": "a-key",
    **dict.fromkeys(("HOME_KEY", "RATES_KEY"), "0123456789abcdefghijklmnopqrstuv"),
    **dict.fromkeys(("EU_LUMEN_KEY", "US_LUMEN_KEY", "EU_OWN_KEY", "US_OWN_KEY", "CN_YANGTZE_KEY"), "a-key"),
}
"""The environment that the examples ask for."""


class Clone:
    """The folder, the environment of commands in it, and the exchange of ports."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._here = {str(port): str(free_port()) for port in _PORTS}
        self._there = {here: written for written, here in self._here.items()}
        for name in _COPIED:
            source = ROOT / name
            if source.is_dir():
                shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, folder / name)
        for name in _LINKED:
            (folder / name).symlink_to(ROOT / name)
        for policy in folder.glob("*/**/policy.yaml"):
            self.write(policy.relative_to(folder), policy.read_text("utf-8"))
        lay_out_papers(folder)
        self._set_up()

    def write(self, name: Path, text: str) -> None:
        """Write a file as a document shows it."""
        if re.search(r"^version: 1$", text, re.MULTILINE) and not re.search(r"^admin:", text, re.MULTILINE):
            text += _ADMIN
        (self.folder / name).write_text(self.exchanged(text))

    def exchanged(self, text: str) -> str:
        """A text of a document, for here."""
        return _PORT.sub(lambda match: self._here[match[1]], text)

    def restored(self, text: str) -> str:
        """What was said here, as a document would have it."""
        return re.sub(r"(?<!\d)(" + "|".join(self._there) + r")(?!\d)", lambda match: self._there[match[1]], text)

    @property
    def environ(self) -> dict[str, str]:
        path = [str(self.folder / ".venv" / "bin"), *os.environ.get("PATH", os.defpath).split(os.pathsep), "/usr/sbin"]
        return {
            "PATH": os.pathsep.join(path),
            "HOME": str(self.folder),
            "TMPDIR": str(self.folder),
            "LC_ALL": "C.UTF-8",
            "TZ": "UTC",
            "TERM": "dumb",
            "COLUMNS": "110",
            "ARGS": "-q -p no:cacheprovider tests/wire/test_target.py",
            "PYTHONPATH": str(self.folder / ".libraries"),
            # This interpreter may have plugins that a fresh environment has not, and that do not run together.
            "TOGETHER": "0",
            "PYTHONDONTWRITEBYTECODE": "1",
            # An installation into a fresh environment finds all that it needs among the libraries, and fetches nothing.
            "PIP_NO_INDEX": "1",
            "PIP_NO_BUILD_ISOLATION": "0",
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        }

    def _set_up(self) -> None:
        """What `make` would have set up, from this environment; the libraries without this project itself."""
        venv = self.folder / ".venv"
        (venv / "bin").mkdir(parents=True)
        (venv / "bin" / "python").symlink_to(sys.executable)
        (venv / "bin" / "python3").symlink_to(sys.executable)
        (venv / "bin" / "kubectl").symlink_to(Path(sys.executable).with_name("kubectl"))
        domicile = venv / "bin" / "domicile"
        domicile.write_text(
            f'#!/bin/sh\nPYTHONPATH="{self.folder}:$PYTHONPATH" exec "{sys.executable}" -m proxy.cli "$@"\n'
        )
        domicile.chmod(0o755)
        stamp = hashlib.sha256((ROOT / "pyproject.toml").read_bytes()).hexdigest()[:16]
        (venv / f".run-{stamp}").touch()
        (venv / f".test-{stamp}").touch()
        libraries = self.folder / ".libraries"
        libraries.mkdir()
        for path in Path(sysconfig.get_path("purelib")).iterdir():
            if "domicile" not in path.name:
                (libraries / path.name).symlink_to(path)


def lay_out_papers(folder: Path) -> None:
    """Files that policies in documents name: key sets, authorities, certificates with their keys, a database."""
    authority = make_authority(folder, "ct-ca")
    edge = authority.issue(["storage.example"])
    us = authority.issue(client=True)
    shutil.copy(edge.certificate, folder / "leaf.pem")
    for issued, name in ((edge, "edge"), (us, "us")):
        issued.certificate.rename(folder / f"{name}.pem")
        issued.key.rename(folder / f"{name}.key")
    clients = make_authority(folder, "clients")
    clients.revocation_list()
    (folder / "jwks.json").write_bytes(key_set(ed_jwk(kid="d")))
    (folder / "country.mmdb").write_bytes(mmdb({"1.2.4.0/24": {"country": {"iso_code": "CN"}}}, int(time.time())))


def settings_of(text: str) -> dict[str, str]:
    """A value for every variable that a policy names."""
    return {name: SETTINGS.get(name, "a-value") for name in re.findall(r"(?<!\$)\$\{(\w+)\}", text)}
