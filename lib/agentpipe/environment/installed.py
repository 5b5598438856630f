"""What stands in an environment: its packages, by their own records (`*.dist-info`)."""

import glob
import os
import re

from agentpipe.environment.requirements import normalised

STUB = "AGENTPIPE_STUB"  # a file in the record of a package that only seems to be there (image_packages.py)
SEEDS = {"pip", "setuptools", "wheel"}


def site_packages(folder: str) -> str:
    """The environment's own folder of packages."""
    return glob.glob(os.path.join(glob.escape(folder), "lib", "*", "site-packages"))[0]


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


def required(folder: str) -> set[str]:
    """The normalised names of what its packages need, whatever their extras."""
    return set().union(*(_metadata(record)[2] for record in _records(folder)))


def modules(folder: str, asked: set[str]) -> list[str]:
    """The names of the modules and packages that these distributions bring, by their records, in order of names."""
    found: dict[str, None] = {}
    for record in _records(folder):
        if normalised(_metadata(record)[0]) in asked:
            try:
                with open(os.path.join(record, "RECORD"), encoding="utf-8", errors="replace") as file:
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
    """Whether every module of every package is there in its recorded size: what a power cut leaves often is not."""
    import csv
    site = site_packages(folder)
    try:
        for record in _records(folder):
            with open(_read(os.path.join(record, "RECORD")), encoding="utf-8", newline="") as file:
                for path, _, size, *_ in csv.reader(file):
                    # scripts are ours: they were made relocatable
                    if size and not path.startswith("..") and os.stat(os.path.join(site, path)).st_size != int(size):
                        return False
    except (OSError, ValueError):
        return False
    return True


def damage(folder: str) -> list[str]:
    """The files of packages that are gone, or not as they were installed (by the hashes of their records)."""
    import base64
    import csv
    import hashlib
    site, found = site_packages(folder), _conda_damage(folder)
    for record in _records(folder):
        if _installer(record) == "conda":
            continue
        listed = os.path.join(record, "RECORD")
        try:
            with open(_read(listed), encoding="utf-8", newline="") as file:
                rows = list(csv.reader(file))
        except OSError:
            found.append(os.path.relpath(listed, folder))
            continue
        for path, wanted, *_ in rows:
            kind, _, digest = wanted.partition("=")
            if not digest or path.startswith("..") or kind not in hashlib.algorithms_available:
                continue
            try:
                with open(_read(os.path.join(site, path)), "rb") as file:
                    there = base64.urlsafe_b64encode(hashlib.new(kind, file.read()).digest()).rstrip(b"=").decode()
            except OSError:
                there = ""
            if there != digest:
                found.append(os.path.relpath(os.path.join(site, path), folder))
    return sorted(found)


def _conda_damage(folder: str) -> list[str]:
    """The same for packages of conda, by conda-meta."""
    import hashlib
    import json
    found = []
    for meta in glob.glob(os.path.join(glob.escape(folder), "conda-meta", "*.json")):
        with open(meta, encoding="utf-8") as file:
            paths = (json.load(file).get("paths_data") or {}).get("paths") or []
        for each in paths:
            wanted, path = each.get("sha256_in_prefix") or each.get("sha256"), os.path.join(folder, each["_path"])
            if not wanted or each.get("path_type") == "softlink" or path.endswith(".pyc"):
                continue
            try:
                with open(path, "rb") as file:
                    there = hashlib.sha256(file.read()).hexdigest()
            except OSError:
                there = ""
            if there != wanted:
                found.append(each["_path"])
    return found


def _records(folder: str) -> list[str]:
    found = glob.glob(os.path.join(glob.escape(site_packages(folder)), "*.dist-info"))
    return [record for record in found if not os.path.exists(os.path.join(record, STUB))]


def _read(path: str) -> int:
    """A descriptor of a file of an environment; OSError where it is none, or leads out of one that a container made."""
    from agentpipe import untrusted
    from agentpipe.place import apart
    return untrusted.of_task(path, apart.within(path) or "/")


def _metadata(record: str) -> tuple[str, str, set[str]]:
    """(name, version, names of what it needs whatever its extras)."""
    try:
        with open(_read(os.path.join(record, "METADATA")), encoding="utf-8", errors="replace") as file:
            head = file.read().split("\n\n", 1)[0]
    except OSError:
        return "", "", set()
    name = re.search(r"^Name:\s*(\S+)", head, re.M)
    version = re.search(r"^Version:\s*(\S+)", head, re.M)
    return (name[1] if name else "", version[1] if version else "",
            names_of(re.findall(r"^Requires-Dist:\s*(.+)$", head, re.M)))


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
    import json
    try:
        with open(_read(os.path.join(record, "direct_url.json")), encoding="utf-8") as file:
            found: dict = json.load(file)
        return found
    except (OSError, ValueError):
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
