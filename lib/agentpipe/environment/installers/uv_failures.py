"""What uv said, as a cause with an exit code and something to do: the package is named, the remedy is a change."""

from __future__ import annotations

import re

from agentpipe import errors, paths
from agentpipe.environment import wheelhouse
from agentpipe.environment.installers import uv_network, uv_repositories, uv_words, wrong_pythons
from agentpipe.environment.installers.uv_words import PACKAGE, WISH
from agentpipe.environment.requirements import NAME
from agentpipe.settings.offline import offline
from agentpipe.urls import without_credentials

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from agentpipe.environment.requirements import Requirements
    from agentpipe.job import Job
    from agentpipe.tools import ToolFailed


def explained(job: Job, error: ToolFailed, folder: str, requirements: Requirements) -> errors.Failure:
    """The Failure for what uv printed: 65, 66, 69, 73, 75 or 77, its words as evidence."""
    said = uv_words.plain(error.output)
    evidence = without_credentials(error.output[-4000:])
    python = wrong_pythons.python_of(folder)
    looks: tuple[tuple[str, Callable[[], errors.Failure | None]], ...] = (
        ("disk", lambda: _disk(said)),
        ("misnamed", lambda: _misnamed(said, requirements)),
        ("locked", lambda: _locked(said)),
        ("offline", lambda: uv_network.not_cached(said)),
        ("network", lambda: uv_repositories.away(said, error, requirements)),
        ("network", lambda: uv_network.unreachable(said, requirements)),
        ("malformed", lambda: _malformed(said, requirements)),
        ("hashes", lambda: _hashes_wanted(said, requirements)),
        ("not_built", lambda: wrong_pythons.build_needs(said, requirements)),
        ("not_there", lambda: _gone(said, requirements)),
        ("no_package", lambda: _no_package(job, said, folder, requirements)),
        ("wrong_python", lambda: wrong_pythons.wrong_python(job, said, requirements, python)),
        ("metadata", lambda: _metadata(said, requirements)),
        ("no_version", lambda: _no_version(job, said, folder, requirements)),
        ("hash", lambda: _hash(said)),
        ("damaged", lambda: _damaged(said)),
        ("repository", lambda: uv_repositories.missing(said, requirements)),
        ("repository", lambda: uv_repositories.no_project(said, requirements)),
        ("not_built", lambda: wrong_pythons.not_built(job, error.output, folder, requirements)),
        ("conflict", lambda: _conflict(said, requirements)),
    )
    found = next((InstallFailed(failure, kind) for kind, look in looks if (failure := look())), None)
    if found is None:
        from agentpipe.environment.installers import own_builds
        own = own_builds.failure(error.output, requirements) if requirements.projects else None
        found = InstallFailed(own or errors.Failure(
            f"uv could not install the requirements: {uv_words.last_words(said)}", errors.BAD_DATA,
            remedy="see the task's set-up log for uv's words"), "unknown")
    if (found.kind in ("no_package", "no_version", "conflict") and requirements.projects
            and found.exit != errors.NO_PERMISSION):  # of an index that refuses access nothing is known
        from agentpipe.environment.installers import own_needs, uv_questions
        own = own_needs.failure(said, requirements, lambda name: uv_questions.newest(job, folder, name, requirements))
        found = InstallFailed(own, found.kind) if own else found
    found.evidence = evidence
    found.names = {name for name in requirements.names()
                   if re.search(rf"(?<![\w.-]){'[-_.]+'.join(map(re.escape, name.split('-')))}(?![\w-])", said, re.I)}
    found.said = said
    if found.kind == "network" and "--network none" in str((job.manifest.get("place") or {}).get("arguments")):
        found.remedy = "its container has no network (--network none): an image that has these packages will do"
    found.reason += _where(found, requirements)
    if requirements.project and found.change[:1] in (("--package",), ("--drop-package",)):
        # a list in the task would take the place of all that the project asks for
        found.remedy = found.remedy.replace("the requirements", requirements.project)
        found.change = errors.CODE_ANEW
    return found


class InstallFailed(errors.Failure):
    """What uv could not do; `kind` of the causes above, `names` of the list's packages that it spoke of."""

    def __init__(self, failure: errors.Failure, kind: str) -> None:
        super().__init__(failure.reason, failure.exit, failure.evidence, failure.remedy, failure.change)
        self.of_machine = failure.of_machine
        self.kind = kind
        self.names: set[str] = set()
        self.said = ""


def first_words(output: str) -> str:
    """The cause in an output of uv, for a line of the log."""
    return without_credentials(uv_words.cause(uv_words.plain(output)))[:200]


def lacking(output: str) -> str:
    """What uv, which may not ask the network, misses: the line that asks for it, else a package's name."""
    said = uv_words.plain(output)
    found = re.search(r"(\S+) (?:was not found in the cache|needs? to be downloaded from a registry)"
                      r"(?: and you require (.+?),? we can conclude)?", said)
    return without_credentials(found[2] or found[1]) if found else first_words(output)


def _where(failure: errors.Failure, requirements: Requirements) -> str:
    """" (line 3 of more.txt)": where the line stands that the failure is about, when that is a file."""
    said = f"{failure.reason}\n{failure.remedy}"
    places = [place for line, place in requirements.places.items() if f"'{without_credentials(line)}'" in said
              or re.search(rf"(?:^| ){re.escape(without_credentials(line))}(?:$|[ ;:])", failure.reason)]
    return f" ({' and '.join(places)})" if places else ""


def _disk(said: str) -> errors.Failure | None:
    from agentpipe.environment import env_cache
    if re.search(r"No space left on device|Disk quota exceeded", said):
        return errors.Failure("the disk of the environment cache is full", errors.CANNOT_CREATE,
                              remedy=f"make room there, or set {env_cache.setting()} to a larger disk")
    if "Read-only file system (os error 30)" in said:
        return errors.Failure("the disk of the environment cache is read-only", errors.CANNOT_CREATE,
                              remedy=f"set {env_cache.setting()} to a folder that you can write")
    if "Permission denied (os error 13)" in said:
        failure = errors.Failure("a file of the environment cannot be written: permission denied",
                                 errors.CANNOT_CREATE, remedy="let the agent's user own its cache directory")
        failure.of_machine = paths.cache() in said  # not what a requirement names
        return failure
    return None


def _locked(said: str) -> errors.Failure | None:
    found = re.search(r"Timeout \((\d+)s\) when waiting for lock", said)
    if not found:
        return None
    return errors.Failure(f"another process has built {uv_words.first_name(said) or 'the same'} for {found[1]} s",
                          errors.TRY_AGAIN, remedy="run the task again later, or set a longer UV_LOCK_TIMEOUT")


def _malformed(said: str, requirements: Requirements) -> errors.Failure | None:
    found = re.search(r"Couldn't parse requirement in `[^`]*` at position \d+ (?:cause: )?(.*)", said)
    if not found:
        return None
    words = found[1].rstrip(" ^")
    # uv ends with the whole line; one of a constraint is none of the list's
    lines = [line for line in requirements.packages if f" {words}".endswith(f" {' '.join(line.split())}")]
    line = max(lines, key=len, default="")
    shown = f"'{without_credentials(line)}'" if line else "it"
    words = f"{words.removesuffix(' '.join(line.split())).rstrip()}, in {shown}" if line else words
    form = f"write {shown} as NAME, NAME==VERSION or NAME @ URL"
    remedy, change = f"{form} in the requirements", tuple[str, ...]()
    if line and (place := requirements.places.get(line)):
        remedy, change = f"{form} in {place}", () if "://" in place else errors.CODE_ANEW
    elif re.match(r"[a-z]+\+", line):  # hg+https://…: no package is called so
        remedy, change = f"take '{without_credentials(line)}' out of the requirements", ("--drop-package", line)
    elif line and (match := re.match(NAME, line)):
        remedy = f"{form} in your requirements.txt, and there: agent-task edit --requirements requirements.txt"
        change = uv_words.replacing(line, match[1] + (f"[{match[2]}]" if match[2] else ""))
    return errors.Failure(f"a requirement is not understood: {words[:200]}", errors.BAD_DATA, remedy=remedy,
                          change=change)


def _hashes_wanted(said: str, requirements: Requirements) -> errors.Failure | None:
    """--require-hashes, and a package of the list, or one that another needs, without pin or hash."""
    found = re.search(r"(?:In `--require-hashes` mode, all requirements must have [^:]*|Hash-checking is required, but "
                      rf"no trusted hash was provided for): `?{PACKAGE}", said)
    if not found or any(uv_words.is_about(found[1], line) for line in requirements.constraints):
        return None
    return errors.Failure(f"--require-hashes wants a version and a hash of every package, and {found[1]} has none",
                          errors.BAD_DATA, remedy=f"ask for it as '{found[1]}==VERSION --hash=sha256:…', or take "
                                                  "'--require-hashes' out of the requirements")


def _no_package(job: Job, said: str, folder: str, requirements: Requirements) -> errors.Failure | None:
    found = re.search(rf"Because {PACKAGE} was not found in the (?:package registry|provided package locations)", said)
    if not found:
        return None
    from agentpipe.environment import package_names
    from agentpipe.environment.installers import uv_questions
    refused, status = uv_questions.refused(job, folder, found[1], requirements)
    if refused:
        # some answer so for what they do not have
        lacks = f" or has no {found[1]}" if status == "403" else ""
        return uv_network.refusing(without_credentials(refused), lacks=lacks,
                                   unset=uv_network.unset_in(refused, requirements))
    line = uv_words.line_of(found[1], requirements)
    if not uv_words.lines_of(found[1], requirements):  # nothing to take out: another asks for it, or we (pip)
        owner = re.search(rf"(?:all versions of )?{uv_words.named('owner')} depends? on {re.escape(found[1])}", said)
        by = uv_words.line_of(re.split(r"[\[<>=!~]", owner["owner"])[0], requirements) if owner else ""
        return errors.Failure(f"no package {found[1]} in the indexes" + (f", which {by} needs" if by else ""),
                              errors.NOT_FOUND, remedy="name the index that has it in PIP_EXTRA_INDEX_URL")
    hint = re.search(r"Did you mean to install `([^`]+)`", said)
    better = hint[1] if hint else package_names.meant_by(found[1])
    remedy = (f"replace '{line}' by '{better}' in the requirements" if better else
              f"take '{line}' out of the requirements, or name the index that has it in PIP_EXTRA_INDEX_URL")
    return errors.Failure(f"no package {found[1]} in the indexes" + (f"; {better} may be meant" if better else ""),
                          errors.NOT_FOUND, remedy=remedy, change=uv_words.replacing(line, better))


def _gone(said: str, requirements: Requirements) -> errors.Failure | None:
    """What a receipt names, and nobody has any more: another version would be another environment."""
    found = (re.search(rf"there (?:is|are) no versions? of {WISH}", said)
             or re.search(rf"Because {PACKAGE} was not found in the (?:package registry|provided package loc)", said))
    if not found or not requirements.exact:
        return None
    pin = next((pin for pin in requirements.pins if isinstance(pin, dict) and uv_words.is_about(found[1], pin["name"])),
               {"name": found[1]})
    what = f"{pin['name']}=={pin['version']}" if pin.get("version") else pin["name"]
    came = f" (it came from {without_credentials(str(pin['source']))})" if pin.get("source") else ""
    if offline():
        return errors.Failure(f"{what} of the receipt is not in the wheelhouse {wheelhouse.home()}", errors.NOT_FOUND,
                              remedy="fetch it where there is a network: agent-prepare --stage-only, with this receipt")
    return errors.Failure(f"{what} of the receipt is not in the indexes any more{came}", errors.NOT_FOUND,
                          remedy="name an index that has it in PIP_EXTRA_INDEX_URL")


def _no_version(job: Job, said: str, folder: str, requirements: Requirements) -> errors.Failure | None:
    found = (re.search(rf"there (?:is|are) no versions? of {WISH}", said)
             or re.search(rf"only (?:the following versions of )?{WISH} (?:is|are) available", said))
    if not found:
        return None
    from agentpipe.environment.installers import uv_questions
    name = found[1]
    line = uv_words.line_of(name, requirements)
    exact = re.search(r"==\s*([^\s,;*+]+)", line)
    # of 1.0+cu118 first 1.0, which an index has where its maker builds for one kind of machine more
    wishes = [f"{name}=={exact[1]}", f"{name}<{exact[1]}"] if exact else []
    newest = (uv_questions.newest(job, folder, each, requirements) for each in [*wishes, name])
    better = next(filter(None, newest), "")
    if line == name and (needs := re.search(rf"{uv_words.named('owner')} depends? on ({re.escape(name)}[<>=!~][^\s,]+)",
                                            said)):
        # what of it there is, and not what is asked for, stands in uv's first words
        by = uv_words.line_of(re.split(r"[\[<>=!~]", needs["owner"])[0], requirements)
        return errors.Failure(f"{by} asks for {needs[2]}, which is not in the indexes", errors.NOT_FOUND,
                              remedy=f"ask for another version than '{by}' in the requirements",
                              change=uv_words.without_pin(by))
    wish = line.partition(" --hash")[0] if line != name else f"{name}{found[2] or ''}"
    if wish == name and not better:  # a page of a proxy or a login, too
        return errors.Failure(f"an index has {name}, but no file of it", errors.NOT_FOUND,
                              remedy=f"look at what the index answers for {name} (PIP_INDEX_URL, pip.conf): it may be "
                                     "a page of a proxy or a login")
    if better:
        return errors.Failure(f"no such version: {wish}; the nearest one there is {better}", errors.NOT_FOUND,
                              remedy=f"replace '{line}' by '{better}' in the requirements",
                              change=uv_words.replacing(line, better))
    return errors.Failure(f"no such version: {wish}", errors.NOT_FOUND, change=uv_words.replacing(line, name),
                          remedy=f"ask for another version than '{line}' in the requirements")


def _metadata(said: str, requirements: Requirements) -> errors.Failure | None:
    """A file of an index that contradicts its own name, or whose pyproject.toml nobody can read."""
    found = re.search(rf"{uv_words.named('owner')} has (?:inconsistent|invalid) metadata", said)
    told = re.search(r"hint: Metadata for `[^`]*`(?: \([^)]*\))? (?:was inconsistent|could not be parsed): (.*?)"
                     r"(?= hint: |$)", said)
    if not found or not told:
        return None
    line = uv_words.line_of(re.split(r"[<>=!~]", found["owner"])[0], requirements)
    return errors.Failure(f"{found['owner']} is a broken file in the index: {told[1].strip()[:300]}", errors.BAD_DATA,
                          remedy=f"ask for another version than '{line}' in the requirements",
                          change=uv_words.any_version(line))


def _hash(said: str) -> errors.Failure | None:
    found = re.search(rf"Hash mismatch for `?{PACKAGE}", said)
    if not found:
        return None
    return errors.Failure(f"{found[1]}: the file in the index is not the one whose hash was recorded",
                          errors.BAD_DATA, remedy=f"find out who replaced {found[1]}, or record its new hash")


def _damaged(said: str) -> errors.Failure | None:
    """A file that is cut short or no archive at all, where it came with no hash or was not read to its end."""
    found = re.search(rf"Failed to (?:download|extract|read|install)[^`]*`{PACKAGE}[^`]*`.*?Failed to extract archive: "
                      r"(\S+)(.*)", said)
    if not found:
        return None
    why = found[3].rpartition("cause: ")[2].strip()
    return errors.Failure(f"{found[1]}: the file {found[2]} is damaged" + (f": {why[:200]}" if why else ""),
                          errors.BAD_DATA,
                          remedy="fetch it again where there is a network: agent-prepare --stage-only" if offline()
                          else f"look at {found[2]} in the index: it has to be put there again")


def _misnamed(said: str, requirements: Requirements) -> errors.Failure | None:
    """What stands at an address is another package than the line says."""
    found = (re.search(r"Package metadata name `(?P<real>[^`]+)` does not match given name `(?P<name>[^`]+)`", said)
             or re.search(r"Requested package name `(?P<name>[^`]+)` does not match `(?P<real>[^`]+)` in the", said))
    if not found:
        return None
    name, line = found["name"], uv_words.line_of(found["name"], requirements)
    own = re.match(NAME + "@", line)  # else a package of the list asks for it so
    better = f"{found['real']}{line[own.end(1):]}" if own else ""
    return errors.Failure(f"{line} brings {found['real']}, not {name}", errors.BAD_DATA,
                          remedy=f"write {better} in its place" if better else f"correct the address of {name}",
                          change=uv_words.replacing(line, better) if better else ())


def _conflict(said: str, requirements: Requirements) -> errors.Failure | None:
    twice = re.search(r"conflicting URLs for package `([^`]+)`: - (.*?) - (\S+)", said)
    if twice:
        return errors.Failure(f"{twice[1]} is asked for from two places: {without_credentials(twice[2])} and "
                              f"{without_credentials(twice[3])}", errors.BAD_DATA,
                              remedy=f"keep one of the lines that bring {twice[1]} in the requirements")
    if "unsatisfiable" not in said and "No solution found" not in said:
        return None
    names = dict.fromkeys(match[1] for match in re.finditer(rf"(?:require|depends on|and|Because) {WISH}", said)
                          if match[1] not in ("your", "you", "the", "because"))
    lines = [line for name in names for line in uv_words.lines_of(name, requirements)]
    which = " and ".join(dict.fromkeys(lines)) or "the requirements"
    # what limits no version, with extras or not, has nothing to relax
    ranged = next((line for line in reversed(lines) if uv_words.any_version(line)), "")
    cannot = "cannot be installed together" if len(lines) > 1 or not lines else "cannot be installed"
    # what uv concludes is what was just said; that the lines ask for it as well
    cause = re.split(r",? (?:and you require|we can conclude)", uv_words.cause(said))[0]
    why = "" if cause.startswith("you require") else f": {cause}"
    limits = [without_credentials(line) for line in requirements.constraints for name in names
              if uv_words.is_about(name, line)]
    remedy = f"relax '{ranged or (lines[-1] if lines else which)}' in the requirements"
    binaries = next((value for name, value in requirements.options if name == "--no-binary"), "")
    if binaries and "no source distribution" in said:
        remedy = f"take '--no-binary {binaries}' out of the requirements"
    if limits and not ranged:
        remedy = f"relax the constraint '{limits[0]}' (-c, PIP_CONSTRAINT)"
    return errors.Failure(f"{which} {cannot}{why}", errors.BAD_DATA, remedy=remedy,
                          change=uv_words.any_version(ranged))
