"""Where packages come from: pip's configuration, which users have, as lines of a requirements file, which uv reads.

pip's settings are taken from PIP_* variables and pip.conf as pip itself does; uv's own (UV_*, uv.toml) are left to uv.
They go into the file that the installer gets, readable by its owner only: an index address may hold a password.
"""

import os

# as pip's configuration names them, and whether several values may stand there
SETTINGS = {"index-url": False, "extra-index-url": True, "find-links": True, "no-index": False, "pre": False,
            "no-binary": True, "only-binary": True, "constraint": True, "build-constraint": True,
            "trusted-host": True, "cert": False, "client-cert": False, "proxy": False}
UV_VARIABLES = ("UV_DEFAULT_INDEX", "UV_INDEX", "UV_INDEX_URL", "UV_EXTRA_INDEX_URL", "UV_FIND_LINKS", "UV_NO_INDEX",
                "UV_INDEX_STRATEGY", "UV_PRERELEASE", "UV_RESOLUTION", "UV_EXCLUDE_NEWER", "UV_NO_BINARY",
                "UV_NO_BINARY_PACKAGE", "UV_NO_BUILD", "UV_NO_BUILD_PACKAGE", "UV_NO_BUILD_ISOLATION", "UV_NO_SOURCES",
                "UV_EXCLUDE_NEWER_PACKAGE", "UV_FORK_STRATEGY", "UV_TORCH_BACKEND", "UV_CONFIG_FILE")
YES = {"1", "true", "yes", "on", "y", "t"}


def lines() -> list[str]:
    """Lines for the top of a requirements file."""
    from agentpipe.settings import config
    pip = pip_settings()
    found = [f"--extra-index-url {url}"
             for url in config.get_list("agent.package_manager.extra_index_url")]
    if not (os.environ.get("UV_DEFAULT_INDEX") or os.environ.get("UV_INDEX_URL")):
        found += [f"--index-url {url}" for url in pip["index-url"][:1]]
    found += [f"--extra-index-url {url}" for url in pip["extra-index-url"]]
    found += [f"--find-links {_absolute(place)}" for place in pip["find-links"] if _is_there(place)]
    found += [f"--{name}" for name in ("no-index", "pre") if pip[name] and pip[name][0].lower() in YES]
    return found + [f"--{name} {value}" for name in ("no-binary", "only-binary") for value in pip[name]]


def local() -> list[str]:
    """The folders and files of this machine that these lines, or uv's variables, name (of an index the folder above
    it)."""
    found = []
    of_uv = [place for name in ("UV_FIND_LINKS", "UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_INDEX", "UV_EXTRA_INDEX_URL")
             for place in os.environ.get(name, "").replace(",", " ").split()]
    for words in [*(line.partition(" ")[2] for line in lines()), *of_uv]:
        path = words.removeprefix("file://") if words.startswith("file:///") else words
        if path.startswith("/"):
            path = path.rstrip("/")
            found.append(os.path.dirname(path) if os.path.basename(path) == "simple" else path)
    return [path for path in dict.fromkeys(found) if os.path.exists(path)]


def strategy() -> str:
    """How several indexes are looked at: as pip does it, the best version of all of them."""
    return os.environ.get("UV_INDEX_STRATEGY") or "unsafe-best-match"


def download_cache() -> str:
    """Where downloads are kept: UV_CACHE_DIR, agent.pip_download_cache.path, else beside our other caches."""
    from agentpipe import paths
    from agentpipe.settings import config
    own = os.environ.get("UV_CACHE_DIR")
    if not own and config.flag("agent.pip_download_cache.enabled", True):
        told = config.get("agent.pip_download_cache.path")
        own = os.path.join(os.path.abspath(os.path.expanduser(told)), "uv") if told else None
    return own or paths.cache("uv")


def container_cache() -> str:
    """The same for what is installed in containers: they can write there, and nothing that this machine installs for
    itself is to come from them."""
    from agentpipe import paths
    return paths.cache("uv-containers")  # in no folder that was named for others, nor beside one: it may not be ours


def as_variables(lines: list[str]) -> dict[str, str]:
    """Lines of a requirements file about indexes, as variables that uv reads; what uv was told itself stays."""
    pairs = [line.partition(" ")[::2] for line in lines]
    found = {"UV_DEFAULT_INDEX": [url for name, url in pairs if name == "--index-url"][:1],
              "UV_INDEX": [url for name, url in pairs if name == "--extra-index-url"],
              "UV_FIND_LINKS": [",".join(_without_comma(place) for name, place in pairs if name == "--find-links")],
              "UV_NO_INDEX": ["1" for name, _ in pairs if name == "--no-index"][:1],
              "UV_PRERELEASE": ["allow" for name, _ in pairs if name == "--pre"][:1]}
    return {name: " ".join(values) for name, values in found.items() if any(values) and not os.environ.get(name)}


def _without_comma(place: str) -> str:
    """A place in a list that commas separate: a folder whose name has one as a URL."""
    from urllib.parse import quote
    return f"file://{quote(place)}" if place.startswith("/") and "," in place else place


def insecure_hosts() -> list[str]:
    """Hosts whose certificate is not looked at (pip's trusted-host)."""
    return pip_settings()["trusted-host"]


def variables() -> dict[str, str]:
    """What uv reads from the environment for the same: certificates and the proxy. Names that are set stay."""
    pip = pip_settings()
    wanted = {"SSL_CERT_FILE": pip["cert"][:1] or [os.environ.get("REQUESTS_CA_BUNDLE", "")],
              "SSL_CLIENT_CERT": pip["client-cert"][:1], "ALL_PROXY": pip["proxy"][:1]}
    return {name: value[0] for name, value in wanted.items() if value and value[0] and not os.environ.get(name)}


def fingerprint() -> list[str]:
    """All of it that decides what is installed, for hashing only (it may hold passwords)."""
    from agentpipe.files import file_digest
    found = lines() + [f"{name}={os.environ[name]}" for name in UV_VARIABLES if os.environ.get(name)]
    for path in uv_files():
        if os.path.isfile(path):
            found.append(f"{path} {file_digest(path)}")
    return found


def pip_settings() -> dict[str, list[str]]:
    """pip's settings by name; a variable beats the files, a later file an earlier one, [install] beats [global]."""
    import configparser
    files = configparser.RawConfigParser(strict=False)
    try:
        files.read([path for path in _pip_files() if path != os.devnull], encoding="utf-8")
    except (configparser.Error, UnicodeDecodeError):
        pass  # pip itself would refuse to start; the indexes that it names are then not known
    found: dict[str, list[str]] = {}
    for name, several in SETTINGS.items():
        text = os.environ.get("PIP_" + name.upper().replace("-", "_"), "")
        for section in ("install", "global"):
            text = text or files.get(section, name, fallback="") or files.get(section, name.replace("-", "_"),
                                                                              fallback="")
        found[name] = text.split() if several else [text.strip()] if text.strip() else []
    return found


def _pip_files() -> list[str]:
    """As in pip's documentation, the site's own file left out: it is that of one environment."""
    named = os.environ.get("PIP_CONFIG_FILE", "")
    if named == os.devnull:
        return []
    system = [os.path.join(folder, "pip", "pip.conf")
              for folder in reversed((os.environ.get("XDG_CONFIG_DIRS") or "/etc/xdg").split(":")) if folder]
    home = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    user = [os.path.expanduser("~/.pip/pip.conf"), os.path.join(home, "pip", "pip.conf")]
    return [*system, "/etc/pip.conf", *user, *([named] if named else [])]


def uv_files() -> list[str]:
    """Where uv's own settings stand, a later one beats an earlier one."""
    home = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    named = os.environ.get("UV_CONFIG_FILE")
    return [named] if named else ["/etc/uv/uv.toml", "/etc/xdg/uv/uv.toml", os.path.join(home, "uv", "uv.toml")]


def _is_there(place: str) -> bool:
    return "://" in place or os.path.exists(os.path.expanduser(place))


def _absolute(place: str) -> str:
    return place if "://" in place else os.path.abspath(os.path.expanduser(place))
