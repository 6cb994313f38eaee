"""`${NAME}` in a value takes an environment variable, once: what it brings is not looked at again."""

import re
from collections.abc import Mapping

from proxy.config.note import Wrong, quoted

_REFERENCE = re.compile(r"\$\$\{|\$\{([^}]*)(\}?)")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def expand(text: str, environ: Mapping[str, str]) -> tuple[str, tuple[str, ...]]:
    """The text with its variables filled in (`$${` is a plain `${`), and the values that they brought.

    Raises Wrong, which names the variable and never a value.
    """
    brought: list[str] = []

    def fill(match: re.Match[str]) -> str:
        name, end = match[1], match[2]
        if name is None:
            return "${"
        if not end:
            raise Wrong("`${` without its `}`", "write `$${` for the two characters themselves")
        if not _NAME.fullmatch(name):
            raise Wrong(f"{quoted('${' + name + '}')} names no environment variable", "names are letters, digits and _")
        if name not in environ:
            raise Wrong(f"environment variable {quoted(name)} is not set", "set it, or write the value here")
        brought.append(environ[name])
        return environ[name]

    return _REFERENCE.sub(fill, text), tuple(brought)
