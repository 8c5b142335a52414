"""A course's folder, read as the recipe of an image, by repo2docker's conventions.

repo2docker itself (jupyter-repo2docker) is not used. It builds on an image from a registry and fetches conda and a
whole Jupyter server during each build, which takes minutes and gigabytes, and needs hosts that a university's build
machine often can't reach; a kernel's image needs Python and ipykernel. So its files are read here and become a few
lines of Dockerfile. What is not understood is refused by name, never passed over.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from computehub_ext.core.errors import Invalid, NotFound

PYTHON_BASE = "python:{version}-slim-bookworm"
CONDA_BASE = "mambaorg/micromamba:2-debian12-slim"
PYTHON_DEFAULT = "3.12"
IPYKERNEL = "ipykernel>=7.4,<8"

_FOLDERS = ("binder", ".binder", "")
# In this order, as in repo2docker: a Dockerfile decides everything, and conda installs what pip would.
_RECIPES = ("Dockerfile", "environment.yml", "requirements.txt")
_NOT_UNDERSTOOD = ("postBuild", "start", "Pipfile", "Pipfile.lock", "install.R", "Project.toml", "default.nix")
_APT_PACKAGE = re.compile(r"[a-z0-9][a-z0-9+.-]+(=[A-Za-z0-9.+:~-]+)?")
_PYTHON_VERSION = re.compile(r"(?:python-)?(3\.\d{1,2})(?:\.\d+)?")
_OTHER_FILE = re.compile(r"(?:-r|-c|--requirement|--constraint)[\s=]+(\S+)")
_LOCAL = re.compile(r"(?:-e|--editable)\b|\.{1,2}(?:/|$)|file:")

# pip where the image has one; into Debian's own Python too, since nobody but the kernel uses it.
_PIP = "PIP_BREAK_SYSTEM_PACKAGES=1 python3 -m pip install --no-cache-dir --compile --root-user-action=ignore"
_HAS_KERNEL = "import ipykernel, sys; sys.exit(not (7, 4) <= ipykernel.version_info[:2] < (8, 0))"
ADD_KERNEL = f'RUN python3 -c "{_HAS_KERNEL}" 2>/dev/null || {_PIP} "{IPYKERNEL}"'
PIP_ARGUMENTS = "ARG PIP_INDEX_URL\nARG PIP_EXTRA_INDEX_URL\nARG PIP_TRUSTED_HOST"


@dataclass(frozen=True)
class CourseRecipe:
    """What a folder says.

    Parameters
    ----------
    source:
        The file that decides, as people should be told of it.
    dockerfile:
        The text of the Dockerfile to build, made up or the course's own.
    files:
        What the build gets to see beside it, by path. ``None`` is the whole folder, for a course's own Dockerfile.
    folder:
        The folder that was read.
    python_version:
        The Python that ``runtime.txt`` asks for, if it does.
    """

    source: Path
    dockerfile: str
    folder: Path
    files: dict[str, bytes] | None = field(default_factory=dict)
    python_version: str = ""

    @property
    def is_own_dockerfile(self) -> bool:
        return self.files is None


def read_course(folder: Path, *, base: str = "") -> CourseRecipe:
    """Read a course's folder, or its ``binder`` or ``.binder`` folder where it has one.

    Parameters
    ----------
    base:
        The image to build on; when empty, a public one with the Python that ``runtime.txt`` names, or 3.12.

    Raises
    ------
    NotFound
        It holds no file that says what to install.
    Invalid
        A file can't be used; the message begins with its name and line.
    """
    if not folder.is_dir():
        raise NotFound(f"There is no folder {folder}.", field="from")
    where = next(folder / name for name in _FOLDERS if (folder / name).is_dir())
    source = next((where / name for name in _RECIPES if (where / name).is_file()), None)
    if source is None:
        names = ", ".join(_RECIPES[:-1]) + " or " + _RECIPES[-1]
        raise NotFound(f"{where} has no {names}: nothing there says what its image needs.", field="from")
    if source.name == "Dockerfile":
        if base:
            raise Invalid(f"{source} names its own base: leave --base out, or change its FROM line.", field="base")
        return CourseRecipe(source, _text(source), folder, files=None)
    _refuse_what_is_not_understood(where)
    apt, version = _apt_packages(where / "apt.txt"), _python_version(where / "runtime.txt")
    if source.name == "environment.yml":
        if version:
            raise Invalid(f"{where / 'runtime.txt'}: with environment.yml, name python={version} there.", field="from")
        return _from_environment(source, apt, base)
    return _from_requirements(source, apt, base, version)


def _from_requirements(source: Path, apt: list[str], base: str, version: str) -> CourseRecipe:
    files = _requirement_files(source)
    lines = [
        f"FROM {base or PYTHON_BASE.format(version=version or PYTHON_DEFAULT)}",
        PIP_ARGUMENTS,
        "USER root",
        *_install_apt(apt),
        *(_check_python(version) if version else ()),
        "COPY . /tmp/course/",
        # In one go, so that pip finds versions that go together, or says what can't.
        f'RUN cd /tmp/course && {_PIP} -r {source.name} "{IPYKERNEL}" && rm -rf /tmp/course',
        "USER 1000:1000",
        "WORKDIR /tmp",
    ]
    return CourseRecipe(source, "\n".join(lines) + "\n", source.parent, files, version)


def _from_environment(source: Path, apt: list[str], base: str) -> CourseRecipe:
    text = _text(source)
    try:
        content = yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise Invalid(f"{source}, line {line}: {error.problem or 'this is no YAML'}.", field="from") from error
    if not isinstance(content, dict) or not isinstance(content.get("dependencies"), list):
        raise Invalid(f"{source}, line 1: it has no list of dependencies.", field="from")
    names = [re.split(r"[\s=<>!\[]", str(each), maxsplit=1)[0] for each in content["dependencies"]]
    if "python" not in names or "pip" not in names:
        raise Invalid(f"{source}: its dependencies name no python and pip, which the kernel needs.", field="from")
    lines = [
        f"FROM {base or CONDA_BASE}",
        PIP_ARGUMENTS,
        "USER root",
        *_install_apt(apt),
        "ENV PATH=/opt/conda/bin:$PATH",
        "COPY . /tmp/course/",
        # pip's part of the file is installed by the environment's own pip, with the arguments above.
        f"RUN micromamba install --yes --name base --file /tmp/course/{source.name}"
        " && micromamba clean --all --yes && rm -rf /tmp/course",
        ADD_KERNEL,
        "USER 1000:1000",
        "WORKDIR /tmp",
    ]
    return CourseRecipe(source, "\n".join(lines) + "\n", source.parent, {source.name: text.encode()})


def line_of_step(dockerfile: str, step: int) -> int:
    """Return the line at which the step of that number, counted from 1, begins in a Dockerfile; 0 if it has fewer."""
    steps, continued = 0, False
    for number, line in enumerate(dockerfile.splitlines(), 1):
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        if not continued:
            steps += 1
            if steps == step:
                return number
        continued = stripped.endswith("\\")
    return 0


def line_that_names(path: Path, package: str) -> int:
    """Return the line of a file that asks for a package; 0 if none does."""
    wanted = re.sub(r"[-_.]+", "-", re.split(r"[\s=<>!~;\[(]", package, maxsplit=1)[0]).lower()
    for number, line in _lines(path):
        words = (re.split(r"[=<>!~;\[(@]", word, maxsplit=1)[0] for word in line.lstrip("- ").split())
        if wanted in (re.sub(r"[-_.]+", "-", word).lower() for word in words):
            return number
    return 0


def _install_apt(packages: list[str]) -> list[str]:
    if not packages:
        return []
    names = " ".join(shlex.quote(package) for package in packages)
    return [
        f"RUN apt-get update && apt-get install -y --no-install-recommends {names} && rm -rf /var/lib/apt/lists/*",
    ]


def _check_python(version: str) -> list[str]:
    # A base of the administrator's may have another Python than the course asks for.
    check = f"import sys; v = '%d.%d' % sys.version_info[:2]; v == '{version}' or sys.exit('This base has Python ' + v)"
    return [f'RUN python3 -c "{check}"']


def _apt_packages(path: Path) -> list[str]:
    packages = []
    for number, line in _lines(path):
        for package in line.split():
            if not _APT_PACKAGE.fullmatch(package):
                raise Invalid(f"{path}, line {number}: {package!r} is no name of a Debian package.", field="from")
            packages.append(package)
    return packages


def _python_version(path: Path) -> str:
    for number, line in _lines(path):
        if matched := _PYTHON_VERSION.fullmatch(line):
            return matched[1]
        raise Invalid(f"{path}, line {number}: {line!r} is not understood; write python-3.12.", field="from")
    return ""


def _requirement_files(first: Path) -> dict[str, bytes]:
    """Return a requirements file and those that it names, which have to lie in the same folder or below."""
    root = first.parent.resolve()
    files: dict[str, bytes] = {}
    waiting = [first.name]
    while waiting:
        name = waiting.pop()
        if name in files:
            continue
        path = first.parent / name
        files[name] = _text(path).encode()
        for number, line in _lines(path):
            if _LOCAL.match(line):
                told = "installs from this folder, which the build does not see; for that, write a Dockerfile"
                raise Invalid(f"{path}, line {number}: {line!r} {told}.", field="from")
            if not (named := _OTHER_FILE.match(line)) or "://" in named[1]:
                continue
            other = (path.parent / named[1]).resolve()
            if not other.is_relative_to(root):
                raise Invalid(f"{path}, line {number}: {named[1]} lies outside of the course's folder.", field="from")
            if not other.is_file():
                raise Invalid(f"{path}, line {number}: there is no file {named[1]}.", field="from")
            waiting.append(other.relative_to(root).as_posix())
    return files


def _refuse_what_is_not_understood(where: Path) -> None:
    found = [name for name in _NOT_UNDERSTOOD if (where / name).exists()]
    if found:
        told = "not done here, though repo2docker would: leave it out, or write a Dockerfile"
        raise Invalid(f"{where / found[0]}: this file is {told}.", field="from")


def _lines(path: Path) -> list[tuple[int, str]]:
    """Return a file's lines that say something, with their numbers; none if there is no file."""
    if not path.is_file():
        return []
    numbered = enumerate(_text(path).splitlines(), 1)
    stripped = ((number, re.sub(r"(^|\s)#.*", "", line).strip()) for number, line in numbered)
    return [(number, line) for number, line in stripped if line]


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except UnicodeDecodeError as error:
        raise Invalid(f"{path}: it holds bytes that are no text in UTF-8.", field="from") from error
    except OSError as error:
        raise Invalid(f"{path}: {error.strerror}.", field="from") from error
