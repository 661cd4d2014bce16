"""What determines the numbers of a piece of work besides its data and settings: the code and libraries that compute it.

Sources are parsed, never imported, so that a light process can name the work of a heavy one.
"""

import ast
import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent
CHECKOUT = PACKAGE.parent
LOCK = "requirements.lock"
# The libraries that decide about numbers, by the name that is imported. Those that only store, draw or serve are left
# out. TensorFlow has one version whatever it was built for.
NUMERIC = {
    "numpy": {"numpy"},
    "scipy": {"scipy"},
    "pandas": {"pandas"},
    "PIL": {"pillow"},
    "pi_heif": {"pi-heif"},
    "sklearn": {"scikit-learn", "scipy"},
    "keras": {"keras", "tensorflow"},
    "keras_tuner": {"keras-tuner"},
    "tensorflow": {"tensorflow"},
}
BUILDS = {"tensorflow": ("tensorflow", "tensorflow-cpu")}


@dataclass(frozen=True)
class Source:
    """What is to be known of one module of `ml`."""

    digest: str
    """Names its syntax tree without docstrings; comments and layout are not in it anyway."""
    imports: frozenset[str]
    """Modules of `ml`."""
    libraries: frozenset[str]
    """Numeric libraries, by the name of their distribution."""


@cache
def of(*modules: str) -> str:
    """Return 16 hex digits that name what modules of `ml`, with all that they import, compute.

    They change with the code of any of these modules, and with the versions of Python and of the numeric libraries
    that these import; not with comments, docstrings and layout. A package stands for all of its modules.

    Raises:
        ModuleNotFoundError: `ml` has no such module.
    """
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    content = [[name, _source(name).digest] for name in closure(*modules)]
    return _digest(json.dumps([content, python, libraries(*modules)]))


def closure(*modules: str) -> list[str]:
    """Return modules of `ml` and all those that they import, directly or not, wherever in a file the import stands."""
    found: set[str] = set()
    waiting = {each for module in modules for each in _all_of(module)}
    while waiting:
        module = waiting.pop()
        found.add(module)
        waiting |= _source(module).imports - found
    return sorted(found)


def libraries(*modules: str) -> dict[str, str]:
    """Return the versions of the numeric libraries that modules of `ml`, with all that they import, use."""
    names = {name for module in closure(*modules) for name in _source(module).libraries}
    return {name: _version(name) for name in sorted(names)}


@cache
def commit() -> tuple[str, bool] | None:
    """Return the Git commit of this checkout and whether files differ from it; `None` where Git doesn't know it."""
    if not (CHECKOUT / ".git").exists():  # else it would be the commit of a repository around this one
        return None
    try:
        return _git("rev-parse", "HEAD"), bool(_git("status", "--porcelain"))
    except (OSError, subprocess.SubprocessError):
        return None


@cache
def lock() -> str | None:
    """Return 16 hex digits that name the content of `requirements.lock`; `None` where it isn't beside the code."""
    file = CHECKOUT / LOCK
    return _digest(file.read_text()) if file.is_file() else None


@cache
def _source(module: str) -> Source:
    tree = ast.parse(_file(module).read_bytes())
    imports = {known for name in _imported(tree, module) for known in _known(name)} - {module}
    heads = {name.partition(".")[0] for name in _imported(tree, module)}
    names = frozenset(name for head in heads & NUMERIC.keys() for name in NUMERIC[head])
    return Source(_digest(ast.dump(_without_docstrings(tree))), frozenset(imports), names)


def _imported(tree: ast.Module, module: str) -> Iterator[str]:
    """Yield what a module imports: names of modules or of what is in them; `ml.stages.*` where it depends."""
    package = module if _file(module).name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(tree):
        match node:
            case ast.Import(names):
                yield from (alias.name for alias in names)
            case ast.ImportFrom(origin, names, level):
                above = package.split(".")[: len(package.split(".")) + 1 - (level or 0)] if level else []
                base = ".".join([*above, *([origin] if origin else [])])
                yield from (f"{base}.{alias.name}" for alias in names)
            case ast.Call(ast.Name(called) | ast.Attribute(attr=called), [name, *_]) if called in IMPORTERS:
                yield _importable(name)


IMPORTERS = ("import_module", "__import__")


def _importable(name: ast.expr) -> str:
    """Return the module that an expression names; where that depends on a value, all that begin as it does."""
    match name:
        case ast.Constant(str(module)):
            return module
        case ast.JoinedStr([ast.Constant(str(beginning)), *_]) if beginning.startswith("ml."):
            return f"{beginning.rpartition('.')[0]}.*"
    return "ml.*"


def _known(name: str) -> Iterator[str]:
    """Yield the modules of `ml` that an import of `name` executes: it, or the one it is in, and the packages above."""
    if name.endswith(".*"):
        yield from _all_of(name.removesuffix(".*"))
        return
    parts = name.split(".")
    for length in range(1, len(parts) + 1):
        module = ".".join(parts[:length])
        if parts[0] == "ml" and _is_module(module):
            yield module


def _all_of(name: str) -> list[str]:
    """Return a module or, of a package, all of its modules, in packages below too."""
    if not _is_module(name):
        raise ModuleNotFoundError(f"{PACKAGE} has no module {name}")
    file = _file(name)
    if file.name != "__init__.py":
        return [name]
    paths = (path.relative_to(PACKAGE.parent).with_suffix("") for path in file.parent.rglob("*.py"))
    return [".".join(path.parts).removesuffix(".__init__") for path in paths]


def _is_module(name: str) -> bool:
    return name.partition(".")[0] == PACKAGE.name and _file(name).is_file()


def _file(module: str) -> Path:
    path = PACKAGE.joinpath(*module.split(".")[1:])
    return path / "__init__.py" if path.is_dir() else path.with_name(f"{path.name}.py")


def _without_docstrings(tree: ast.Module) -> ast.Module:
    """Take out all strings that are statements: docstrings, of fields too."""
    for node in ast.walk(tree):
        if isinstance(body := getattr(node, "body", None), list):
            node.body = [one for one in body if not _is_text(one)]  # type: ignore[attr-defined]
    return tree


def _is_text(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Expr) and isinstance(getattr(statement.value, "value", None), str)


def _version(distribution: str) -> str:
    for name in BUILDS.get(distribution, (distribution,)):
        try:
            return version(name)
        except PackageNotFoundError:
            continue
    return ""


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(CHECKOUT), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout.strip()


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
