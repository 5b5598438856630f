"""What stands in an environment: its packages, by their own records (`*.dist-info`)."""

import glob
import math
import os
import re
from collections.abc import Iterator

from agentpipe import untrusted
from agentpipe.environment.requirements import normalised

STUB = "AGENTPIPE_STUB"  # a file in the record of a package that only seems to be there (image_packages.py)
SEEDS = {"pip", "setuptools", "wheel"}
# what reading a record that says nonsense, or is none, can raise (a JSONDecodeError is a ValueError)
WRONG = (OSError, ValueError, TypeError, AttributeError, LookupError, RecursionError)


def site_packages(folder: str) -> str:
    """The environment's own folder of packages, and no link that leads there: conda's Python has `lib/python3.1`."""
    found = glob.glob(os.path.join(glob.escape(folder), "lib", "*", "site-packages"))
    return sorted(found, key=lambda path: os.path.islink(os.path.dirname(path)))[0]


def packages(folder: str, asked: set[str], but_by: str = "") -> list[str]:
    """What `pip freeze` would say: "name==version", or "name @ url" with a repository's commit; sorted.

    What came from a file of this machine is not among them: the task's own line says that better.

    Those that the installer `but_by` ("conda") has put there are left out.

    pip, setuptools and wheel only where somebody needs them (`asked`, or another package): as seeds they are no part
    of what the task asked for.
    """
    needed, found = set(asked), {}
    for record in _records(folder):
        name, version, requires = _metadata(record)
        installer = _installer(record)
        if not name or (but_by and installer == but_by):
            continue
        # where conda has built its package is nobody's affair
        found[normalised(name)] = (_origin(name, record) if installer != "conda" else "") or f"{name}=={version}"
        needed |= requires
    return [found[name] for name in sorted(found)
            if " @ file:" not in found[name] and (name not in SEEDS or name in needed)]


def names(folder: str) -> list[str]:
    """The normalised names of all packages."""
    return [normalised(_metadata(record)[0]) for record in _records(folder)]


def extras(folder: str) -> dict[str, set[str]]:
    """{normalised name: normalised extras that it has} of its packages."""
    heads = map(_head, _records(folder))
    found = ((re.search(r"^Name:\s*(\S+)", head, re.M), re.findall(r"^Provides-Extra:\s*(\S+)", head, re.M))
             for head in heads)
    return {normalised(name[1]): set(map(normalised, named)) for name, named in found if name}


def unfit(folder: str, python: str) -> list[str]:
    """The packages that are for other versions of Python by their own words, as "name version is for Python <3.9"."""
    found = []
    for record in _records(folder):
        told = re.search(r"^Requires-Python:(.*)$", _head(record), re.M)
        limits = told[1].strip() if told else ""
        if re.search(r"<|!=|==|~=", limits):  # with a lowest one alone it would not be here
            from packaging import specifiers
            try:
                fits = specifiers.SpecifierSet(limits).contains(python, prereleases=True)
            except specifiers.InvalidSpecifier:
                continue
            if not fits:
                found.append(f"{' '.join(_metadata(record)[:2])} is for Python {limits}")
    return found


def required(folder: str) -> set[str]:
    """The normalised names of what its packages need, whatever their extras."""
    return set().union(*(_metadata(record)[2] for record in _records(folder)))


def modules(folder: str, asked: set[str]) -> list[str]:
    """The names of the modules and packages that these distributions bring, by their records, in order of names."""
    found: dict[str, None] = {}
    for record in _records(folder):
        if normalised(_metadata(record)[0]) in asked:
            try:
                with open(_read(os.path.join(record, "RECORD")), encoding="utf-8", errors="replace") as file:
                    found.update(dict.fromkeys(re.findall(r"^(\w+)(?:/__init__)?\.py,", file.read(), re.M)))
            except OSError:  # a distribution without one
                pass
    return list(found)


def folders(folder: str) -> dict[str, tuple[str, bool]]:
    """{name: (path, editable)} of packages that were installed from a folder of this machine."""
    from urllib.parse import unquote, urlsplit
    found = {}
    for record in _records(folder):
        direct = _direct_url(record)
        if "dir_info" in direct:
            path = unquote(urlsplit(str(direct.get("url"))).path)
            found[_metadata(record)[0]] = (path, bool(direct["dir_info"].get("editable")))
    return found


def size(folder: str) -> int:
    """The bytes of all files below a folder, links not followed."""
    total, folders = 0, [folder]
    while folders:
        with os.scandir(folders.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)
                else:
                    total += entry.stat(follow_symlinks=False).st_size
    return total


def whole(folder: str) -> bool:
    """Whether every file of every package is there in its recorded size: what a power cut leaves often is not."""
    try:
        by_pip = _by_pip(folder)
        sizes = [_sizes_of_wheel(folder, record) for record in by_pip]
        sizes += [_sizes_of_conda(meta, by_pip) for meta in _conda_meta(folder)]
        return all(os.stat(os.path.join(folder, path)).st_size == size for each in sizes for path, size in each)
    except WRONG:
        return False


def cut_short(folder: str) -> list[str]:
    """The packages of conda ("NAME-VERSION-BUILD") of which a file has not its recorded size. Raises one of WRONG."""
    return [os.path.basename(meta).removesuffix(".json") for meta in _conda_meta(folder)
            if any(os.stat(os.path.join(folder, path)).st_size != size for path, size in _sizes_of_conda(meta, []))]


def damage(folder: str) -> list[str]:
    """The files of packages that are gone, or not as they were installed (by the hashes of their records).

    A record that cannot be read is one of them, whatever is wrong with it: in a container's environment it may hold
    anything.
    """
    try:
        by_pip = _by_pip(folder)
    except IndexError:  # not even a folder of packages
        return ["lib"]
    found: list[str] = []
    for listed in [*_conda_meta(folder), *by_pip]:
        try:
            files = _of_conda(listed, by_pip) if listed.endswith(".json") else _of_wheel(folder, listed)
            found += _changed(folder, files)
        except WRONG:
            found.append(os.path.relpath(listed, folder))
    return sorted(found)


def _rows(record: str) -> Iterator[list[str]]:
    """What a package's RECORD lists: path, hash and size."""
    import csv
    with open(_read(os.path.join(record, "RECORD")), encoding="utf-8", newline="") as file:
        try:
            yield from filter(None, csv.reader(file))
        except csv.Error as error:
            raise ValueError(error) from None


def _wheel_rows(folder: str, record: str) -> Iterator[tuple[str, str, str]]:
    """(path in the environment, hash, size) of the files of a package, but for scripts: these are made relocatable."""
    site = os.path.relpath(site_packages(folder), folder)
    for name, wanted, size, *_ in _rows(record):
        path = os.path.normpath(os.path.join(site, name))
        if not path.startswith(("..", "bin/")):
            yield path, wanted, size


def _of_wheel(folder: str, record: str) -> Iterator[tuple[str, str, str]]:
    """(path in the environment, kind of hash, its digest) of the files of a package."""
    import hashlib
    for path, wanted, _ in _wheel_rows(folder, record):
        kind, _, digest = wanted.partition("=")
        if digest and kind in hashlib.algorithms_available:
            yield path, kind, digest


def _sizes_of_wheel(folder: str, record: str) -> Iterator[tuple[str, int]]:
    yield from ((path, int(size)) for path, _, size in _wheel_rows(folder, record) if size)


def _conda_meta(folder: str) -> list[str]:
    return glob.glob(os.path.join(glob.escape(folder), "conda-meta", "*.json"))


def _conda_rows(meta: str, by_pip: list[str]) -> list[dict]:
    """What conda-meta says of the files of a package; nothing of one in whose place pip has put another."""
    import json
    with open(_read(meta), encoding="utf-8") as file:
        paths: list[dict] = (json.load(file).get("paths_data") or {}).get("paths") or []
    own = {_named(found[0]) for each in paths if (found := re.search(r"[^/]+\.dist-info(?=/)", each["_path"]))}
    if own & {_named(os.path.basename(record)) for record in by_pip}:
        return []
    return [each for each in paths if each.get("path_type") != "softlink" and not each["_path"].endswith(".pyc")]


def _of_conda(meta: str, by_pip: list[str]) -> Iterator[tuple[str, str, str]]:
    """As _of_wheel(), of a package of conda."""
    import base64
    for each in _conda_rows(meta, by_pip):
        wanted = each.get("sha256_in_prefix") or each.get("sha256")
        if wanted:
            yield each["_path"], "sha256", base64.urlsafe_b64encode(bytes.fromhex(wanted)).rstrip(b"=").decode()


def _sizes_of_conda(meta: str, by_pip: list[str]) -> Iterator[tuple[str, int]]:
    """But for files in which the prefix stands, which are longer or shorter than the package has them."""
    yield from ((each["_path"], int(each["size_in_bytes"])) for each in _conda_rows(meta, by_pip)
                if each.get("path_type") == "hardlink" and each.get("size_in_bytes") is not None
                and not each.get("prefix_placeholder"))


def _changed(folder: str, files: Iterator[tuple[str, str, str]]) -> Iterator[str]:
    """Those of these files that are gone or have another digest."""
    import base64
    import hashlib
    home = _home(folder)
    for path, kind, wanted in files:
        digest = hashlib.new(kind)
        try:
            # a library for GPUs has a GB and more
            with open(untrusted.of_task(os.path.join(folder, path), home, math.inf), "rb") as file:
                while block := file.read(1 << 20):
                    digest.update(block)
        except OSError:
            yield path
            continue
        if base64.urlsafe_b64encode(digest.digest()).rstrip(b"=").decode() != wanted:
            yield path


def _by_pip(folder: str) -> list[str]:
    """The records of what conda has not installed."""
    return [record for record in _records(folder) if _installer(record) != "conda"]


def _named(record: str) -> str:
    """The normalised name of a package, by the name of its record."""
    return normalised(record.partition("-")[0])


def _records(folder: str) -> list[str]:
    found = glob.glob(os.path.join(glob.escape(site_packages(folder)), "*.dist-info"))
    return [record for record in found if not os.path.exists(os.path.join(record, STUB))]


def _read(path: str) -> int:
    """A descriptor of a small file of an environment; OSError where it is none, or leads out of one that a container
    made."""
    return untrusted.of_task(path, _home(path))


def _home(path: str) -> str:
    """What a file of the environment with this path may not lead out of."""
    from agentpipe.place import apart
    return apart.within(path) or "/"


def _metadata(record: str) -> tuple[str, str, set[str]]:
    """(name, version, names of what it needs whatever its extras)."""
    head = _head(record)
    name = re.search(r"^Name:\s*(\S+)", head, re.M)
    version = re.search(r"^Version:\s*(\S+)", head, re.M)
    return (name[1] if name else "", version[1] if version else "",
            names_of(re.findall(r"^Requires-Dist:\s*(.+)$", head, re.M)))


def _head(record: str) -> str:
    """The fields of a package's metadata; "" where they cannot be read."""
    try:
        with open(_read(os.path.join(record, "METADATA")), encoding="utf-8", errors="replace") as file:
            return file.read().split("\n\n", 1)[0]
    except OSError:
        return ""


def names_of(needs: list[str]) -> set[str]:
    """The normalised names in `Requires-Dist` lines, but for those of extras."""
    found = (re.match(r"[A-Za-z0-9._-]+", line) for line in needs if "extra ==" not in line)
    return {normalised(match[0]) for match in found if match}


def _installer(record: str) -> str:
    try:
        with open(_read(os.path.join(record, "INSTALLER")), encoding="utf-8", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return ""


def _direct_url(record: str) -> dict:
    """Where a package came from (PEP 610); {} where its record says nothing that makes sense: a wheel may bring one."""
    import json
    from urllib.parse import urlsplit
    try:
        with open(_read(os.path.join(record, "direct_url.json")), encoding="utf-8") as file:
            found: dict = json.load(file)
        urlsplit(found["url"])
        tables = [found.get(name, {}) for name in ("dir_info", "vcs_info", "archive_info")]
        is_one = re.fullmatch(r"[!-~]+", found["url"]) and all(isinstance(each, dict) for each in tables)
        return found if is_one else {}
    except WRONG:
        return {}


def _origin(name: str, record: str) -> str:
    """"name @ url" for what came from no index (PEP 610), without a password that the URL may hold."""
    from agentpipe.urls import without_credentials
    direct = _direct_url(record)
    url = without_credentials(str(direct.get("url") or ""))
    if not url:
        return ""
    subdirectory = f"#subdirectory={direct['subdirectory']}" if direct.get("subdirectory") else ""
    repository = direct.get("vcs_info") or {}
    if repository:
        return f"{name} @ {repository.get('vcs', 'git')}+{url}@{repository.get('commit_id', '')}{subdirectory}"
    return f"{name} @ {url}{subdirectory}"
