"""Reading the product's modules: which there are, and what each imports."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Import:
    """One module importing another, both by dotted name."""

    importer: str
    line: int
    imported: str

    def __str__(self) -> str:
        return f"{self.importer}, line {self.line}: {self.imported}"


def sources() -> dict[str, Path]:
    """Every module of the product, by dotted name."""
    found = {}
    for path in sorted((ROOT / "proxy").rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports_of(name: str, tree: ast.AST, *, package: bool) -> Iterator[Import]:
    """What a module imports. `from a import b` counts as a.b: b may be a module."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(name, node.lineno, alias.name)
        elif isinstance(node, ast.ImportFrom):
            origin = node.module or ""
            if node.level:
                parts = name.split(".")
                kept = len(parts) - node.level + package
                origin = ".".join([*parts[:kept], *([origin] if origin else [])])
            for alias in node.names:
                yield Import(name, node.lineno, f"{origin}.{alias.name}")


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"), str(path))


def all_imports() -> list[Import]:
    return [
        found
        for name, path in sources().items()
        for found in imports_of(name, parsed(path), package=path.name == "__init__.py")
    ]
