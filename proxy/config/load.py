"""A policy file, read whole: every mistake at once, guarantees proved, findings noted."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from proxy.config.aging import aged
from proxy.config.document import Document, plain, read_document
from proxy.config.file import PolicyFile
from proxy.config.note import Note, PolicyRefused
from proxy.config.report import notes_of
from proxy.config.surroundings import surroundings_of
from proxy.config.whole import mistakes_of
from proxy.policy.findings import findings
from proxy.policy.policy import Policy
from proxy.policy.prove import broken_guarantees

_LARGEST = 16 << 20


@dataclass(frozen=True, slots=True)
class Loaded:
    """A policy that holds, and what is worth knowing about it; findings are in the file's order."""

    policy: Policy
    findings: tuple[Note, ...]


def load(path: Path, environ: Mapping[str, str], now: float) -> Loaded:
    """Reads and proves a policy file. now: seconds since the epoch, for dated laws.

    Raises PolicyRefused with every mistake, an unreadable file among them.
    """
    data = _read(path)
    document = read_document(data, path, environ)
    policy = _policy(document, hashlib.sha256(data).hexdigest(), path.parent)
    broken = [
        document.note(("guarantees", each.guarantee), each.words(), "narrow the rules, or promise less")
        for each in broken_guarantees(policy, now)
    ]
    if broken:
        raise PolicyRefused(in_order(broken))
    notes = [*aged(document, policy, now)]
    notes += [document.note(each.loc, each.what, key=True) for each in findings(policy, now)]
    return Loaded(policy, in_order(notes))


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(_LARGEST + 1)
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or "not a file's name"
        raise PolicyRefused((Note(path, 1, 1, f"cannot be read: {reason}", "name a policy file"),)) from None
    if len(data) > _LARGEST:
        raise PolicyRefused((Note(path, 1, 1, "larger than 16 MiB", "no policy needs that"),))
    return data


def _policy(document: Document, digest: str, folder: Path) -> Policy:
    mistakes = list(document.mistakes)
    policy = None
    if document.root is not None:
        tree = plain(document.root)
        mistakes += mistakes_of(document, folder)
        try:
            model = PolicyFile.model_validate(tree, context=surroundings_of(tree, folder))
            policy = None if mistakes else model.value(f"sha256:{digest}")
        except ValidationError as error:
            mistakes += notes_of(error, document)
    if policy is None:
        raise PolicyRefused(in_order(mistakes))
    return policy


def in_order(notes: list[Note]) -> tuple[Note, ...]:
    """Each once, as the file has them."""
    return tuple(sorted(dict.fromkeys(notes), key=lambda note: (note.line, note.column)))
