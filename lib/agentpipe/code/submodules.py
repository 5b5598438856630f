"""Submodules: which ones a checkout has, where each comes from, and which are refused."""

import os

from agentpipe import errors, tools
from agentpipe.code import git
from agentpipe.job import Job
from agentpipe.urls import without_credentials

# git-config(1): for the commands of one shell
ALLOWED = ("where you trust what this repository names, for what the agent does in one shell: export "
           "GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=protocol.file.allow GIT_CONFIG_VALUE_0=always; any repository of this "
           "machine may then bring in each other one that this user can read (git config --global protocol.file.allow "
           "always: for good)")


def of(job: Job, source: git.Source, tree: str) -> list[tuple[str, str, git.Source]]:
    """(name, path, source) of each submodule that .gitmodules names and the commit has."""
    named = _named(source, tree)
    # what would be elsewhere is in no index: git would not even look for it
    by_path = {fields["path"]: name for name, fields in named.items()
               if fields.get("path") and not fields["path"].startswith(("/", ".."))}
    links = tools.run(["git", "ls-files", "--stage", "-z", "--", *by_path], cwd=tree,
                      env=source.environment()) if by_path else ""
    found: list[tuple[str, str, git.Source]] = []
    settings = []
    for line in filter(None, links.split("\0")):
        about, _, path = line.partition("\t")
        mode, commit, _ = about.split(" ")
        name = by_path.get(path)  # none of a submodule that lies below one of these paths, and is not listed
        if mode != "160000" or name is None or named[name].get("update") == "none":
            continue
        if not named[name].get("url"):
            job.say(f"submodule {name} has no url in .gitmodules: left out")
            continue
        _check_place(source, tree, name, path, [other for other, _, _ in found])
        submodule = _source(source, named[name]["url"], name, commit)
        found.append((name, path, submodule))
        shown = without_credentials(submodule.url)
        settings.append((f'submodule "{_escaped(name)}"', {"active": "true", "url": shown}))
    with open(_own_config(tree), "a", encoding="utf-8", errors="surrogateescape") as config:
        config.write(git.config_text(settings))
    return found


def at(source: git.Source, tree: str, path: str, commit: str) -> tuple[str, git.Source]:
    """(name, source at `commit`) of the submodule that .gitmodules has at `path`; Failure 65 when there is none."""
    known = _named(source, tree)
    name = next((each for each, fields in known.items() if fields.get("path") == path), "")
    if not name or not known[name].get("url"):
        raise errors.Failure(f"the diff moves {path} to {commit}, but .gitmodules has no such submodule",
                             errors.BAD_DATA, remedy="commit .gitmodules and the submodule, then enqueue again")
    _check_place(source, tree, name, path, [])
    return name, _source(source, known[name]["url"], name, commit)


def _named(source: git.Source, tree: str) -> dict[str, dict[str, str]]:
    """{name: {field: value}} of .gitmodules; a path as the index has it, though somebody wrote `lib/`."""
    modules = os.path.join(tree, ".gitmodules")
    if not os.path.lexists(modules):
        return {}
    if os.path.islink(modules) or not os.path.isfile(modules):
        raise errors.Failure(f".gitmodules of {source.url} is not a file", errors.BAD_DATA)
    named: dict[str, dict[str, str]] = {}
    try:
        listed = tools.run(["git", "config", "--file", modules, "--null", "--list"], cwd="/", env=source.environment())
    except tools.ToolFailed as failed:
        raise errors.Failure(f".gitmodules of {source.url} cannot be read: {failed.reason}", errors.BAD_DATA,
                             failed.evidence) from None
    for entry in listed.split("\0"):
        key, _, value = entry.partition("\n")
        section, _, rest = key.partition(".")
        name, _, field = rest.rpartition(".")
        if section == "submodule" and name:
            named.setdefault(name, {})[field] = os.path.normpath(value) if field == "path" and value else value
    return named


def _source(parent: git.Source, url: str, name: str, commit: str) -> git.Source:
    where = f"the address of submodule {name}"
    if url.startswith(("./", "../")):
        url = relative(parent.url, url)
    git.check_url(url, where)
    source = git.Source(url, commit=commit)
    if source.local and not (parent.local and _files_allowed(parent)):
        # as git itself since CVE-2022-39253: a repository must not bring in what else this user may read
        raise errors.Failure(f"{where} is a path on this machine: {source.url}", errors.BAD_DATA,
                             remedy=ALLOWED if parent.local
                             else "only a repository that is itself on this machine may have such submodules")
    if source.password is None and parent.password is not None and _host(source.url) == _host(parent.url):
        source.user, source.password = parent.user, parent.password
    return source


def _files_allowed(parent: git.Source) -> bool:
    return tools.run(["git", "config", "--get", "protocol.file.allow"], cwd="/", env=parent.environment(),
                     check=False).strip() == "always"


def relative(base: str, url: str) -> str:
    """The rule of git-submodule(1): against the superproject's origin, as if that were a directory."""
    base = base.rstrip("/")
    while True:
        if url.startswith("./"):
            url = url[2:]
        elif url.startswith("../"):
            url = url[3:]
            cut = max(base.rfind("/"), base.rfind(":"))
            if cut < 0:
                break
            if base[cut] == ":":
                return base[:cut + 1] + url
            base = base[:cut]
        else:
            break
    return f"{base}/{url}".rstrip("/")


def _host(url: str) -> str:
    return "/".join(url.split("/", 3)[:3])


def _check_place(source: git.Source, tree: str, name: str, path: str, others: list[str]) -> None:
    parts = name.split("/")
    nested = any(name == other or f"{name}/".startswith(f"{other}/") or f"{other}/".startswith(f"{name}/")
                 for other in others)
    if any(part in ("", ".", "..") for part in parts) or name.startswith("-") or "\n" in name or nested:
        raise errors.Failure(f"{source.url} has a submodule with a name that is not safe: {name!r}", errors.BAD_DATA,
                             remedy="give it another one in .gitmodules, and push that")
    if not is_inside(tree, path):
        raise errors.Failure(f"{source.url} has a submodule outside its tree: {path!r}", errors.BAD_DATA)


def is_inside(tree: str, path: str) -> bool:
    """Whether a path is one of the tree's own files: relative, through no link, and not in .git."""
    parts = path.lower().split("/")
    if any(part in ("", ".", "..", ".git") for part in parts):
        return False
    return os.path.realpath(os.path.join(tree, path)) == os.path.join(os.path.realpath(tree), path)


def _own_config(tree: str) -> str:
    own = os.path.join(tree, ".git")
    if os.path.isdir(own):
        return os.path.join(own, "config")
    with open(own, encoding="utf-8", errors="surrogateescape") as link:
        return os.path.join(tree, link.read().removeprefix("gitdir: ").rstrip("\n"), "config")


def _escaped(name: str) -> str:
    return name.replace("\\", "\\\\").replace('"', '\\"')
