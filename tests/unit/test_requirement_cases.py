"""Requirement lists of every kind, each installed for real: what is there afterwards, and what its owner was told."""

import os
import subprocess

import package_index
import pytest
import wheelhouse
from env_machine import python

from agentpipe import errors

KEY = "CLEARML_AGENT__AGENT__PACKAGE_MANAGER__"


class Case:
    """`pip` as the task records it; what is `installed` then, or the `exit` of its failure; what is `said`."""

    def __init__(self, name, pip=None, installed=(), exit=0, said=(), files=(), env=(), script=(), tool="uv", run=""):
        self.name, self.pip, self.installed, self.exit, self.said = name, pip, list(installed), exit, said
        self.files, self.env, self.script, self.tool, self.run = dict(files), dict(env), dict(script), tool, run


def project(name, requires=()):
    """The files of a folder with a package that is built by a backend of its own."""
    backend = wheelhouse.BACKEND.format(here=os.path.dirname(os.path.abspath(__file__)), hook="pass", name=name,
                                        version="1.0", requires=list(requires))
    return {"pyproject.toml": wheelhouse.PYPROJECT.format(name=name), "backend.py": backend,
            f"{name}.py": f"who = {name!r}\n"}


def below(folder, files):
    return {f"{folder}/{name}": text for name, text in files.items()}


CASES = [
    Case("a name", "tea", ["tea==2.0"]),
    Case("a pin", "tea==1.0", ["tea==1.0"]),
    Case("a range", "tea>=1,<2", ["tea==1.0"]),
    Case("compatible", "tea~=1.0", ["tea==1.0"]),
    Case("wildcard", "tea==1.*", ["tea==1.0"]),
    Case("a list instead of a text", ["tea==1.0", "milk"], ["milk==1.0", "tea==1.0"]),
    Case("windows line ends and blanks", "\r\n  tea == 1.0  \r\n\r\n", ["tea==1.0"]),
    Case("comments, as clearml writes them", "# Python 3.11.7 (main)\n\ntea==1.0  # by hand\n# gone\n", ["tea==1.0"]),
    Case("another case and separator", "Green_Tea", ["green-tea==1.0"]),
    Case("a marker that holds", 'tea==1.0; python_version >= "3"', ["tea==1.0"]),
    Case("a marker that does not", 'milk\ntea==2.0; python_version < "3"', ["milk==1.0", "tea==1.0"]),
    Case("a marker about the platform", "milk; sys_platform == 'win32'\ntea", ["tea==2.0"]),
    Case("the interpreter among the packages", "python>=3.8\ntea<2", ["tea==1.0"], said=["python>=3.8 is passed over"]),
    Case("a build for another kind of machine", "tea==1.0+cu118", exit=66, said=["the nearest one there is tea==1.0"]),
    Case("a comment without a blank", "tea==1.0#why", exit=65, said=["line 1"]),
    Case("a build that asks for what is not there", "wants", exit=65, said=["wants==1.0 cannot", "nosuchtool>=3"]),
    Case("an extra", "pot[sweet]", ["pot==1.0", "sugar==1.0"]),
    Case("extras with blanks", "pot [ sweet , hot ]", ["pot==1.0", "sugar==1.0", "tea==2.0"]),
    Case("a wheel by URL", "tea @ {web}/tea-1.0-py3-none-any.whl", ["tea @ {web}/tea-1.0-py3-none-any.whl"]),
    Case("a wheel by a bare URL", "{web}/tea-1.0-py3-none-any.whl", ["tea @ {web}/tea-1.0-py3-none-any.whl"]),
    Case("a source by URL", "leaf @ {web}/leaf-1.0.tar.gz", ["leaf @ {web}/leaf-1.0.tar.gz"]),
    Case("a source of the index", "leaf", ["leaf==1.0"]),
    Case("a URL that is not there", "tea @ {web}/tea-9-py3-none-any.whl", exit=66),
    Case("an index", "--index-url {web}/simple\ntea<2", ["tea==1.0"], env={"PIP_NO_INDEX": "", "PIP_FIND_LINKS": ""}),
    Case("an index that wants a password", "-i {private}/simple\ntea<2", ["tea==1.0"],
         env={"PIP_NO_INDEX": "", "PIP_FIND_LINKS": ""}),
    Case("an index whose password is wrong", "-i {denied}/simple\ntea", exit=77,
         env={"PIP_NO_INDEX": "", "PIP_FIND_LINKS": "", "UV_HTTP_RETRIES": "0"}),
    Case("a further index", "--extra-index-url {web}/simple\ntea<2", ["tea==1.0"],
         env={"PIP_NO_INDEX": "", "PIP_FIND_LINKS": "", "PIP_INDEX_URL": "{web}/empty"}),
    Case("a build whose tool is old in one of the indexes", "--extra-index-url {elsewhere}/simple\nturned",
         ["turned==1.0"], env={"PIP_NO_INDEX": "", "PIP_FIND_LINKS": "", "PIP_INDEX_URL": "{web}/simple"}),
    Case("a further index in a variable", "--extra-index-url ${{WEB}}/simple\ntea<2", ["tea==1.0"],
         env={"PIP_NO_INDEX": "", "PIP_FIND_LINKS": "", "PIP_INDEX_URL": "{web}/empty", "WEB": "{web}"}),
    Case("the agent's further indexes", "tea<2", ["tea==1.0"],
         env={"PIP_NO_INDEX": "", "PIP_FIND_LINKS": "", "PIP_INDEX_URL": "{web}/empty",
              KEY + "EXTRA_INDEX_URL": '["{web}/simple"]'}),
    Case("a folder of wheels in the repository", "--no-index\n-f wheels\nown", ["own==1.0"], files={"wheels": "own"}),
    Case("an option of its own that is for builds of old", "tea==1.0 --global-option='-j 4' ", ["tea==1.0"],
         said=["line 1 of the task's requirements: --global-option is passed over"]),
    Case("only sources", "--no-binary leaf\nleaf", ["leaf==1.0"]),
    Case("only wheels", "--only-binary :all:\nleaf", exit=66),
    Case("hashes that fit", "tea==1.0 --hash=sha256:{tea1}", ["tea==1.0"]),
    Case("hashes over several lines", "tea==1.0 \\\n  --hash=sha256:{tea2} \\\n  --hash=sha256:{tea1}", ["tea==1.0"]),
    Case("a hash that does not", "tea==1.0 --hash=sha256:{tea2}", exit=65, said=["tea"]),
    Case("hashes for some", "milk\ntea==1.0 --hash=sha256:{tea1}", ["milk==1.0", "tea==1.0"]),
    Case("a hash of no one version", "tea --hash=sha256:{tea1}", exit=65, said=["line 1", "a hash, but no version"]),
    Case("a hash of many versions", "tea==1.* --hash=sha256:{tea1}", exit=65, said=["a hash, but no version"]),
    Case("--require-hashes without one", "--require-hashes\ntea==1.0", exit=65, said=["and tea has none"]),
    Case("--require-hashes without a version", "--require-hashes\ntea", exit=65, said=["and tea has none"]),
    Case("--require-hashes without one of what another needs", "--require-hashes\nmilk==1.0 --hash=sha256:{milk1}",
         exit=65, said=["and tea has none"]),
    Case("--require-hashes, and limits of this machine that ask for none", "--require-hashes\ntea==1.0", exit=65,
         said=["and tea has none"], env={"PIP_CONSTRAINT": "{limits}"}),
    Case("a further list", "-r more.txt", ["milk==1.0", "tea==1.0"], files={"more.txt": "milk\n"}),
    Case("a list beside a list", "-r deps/a.txt", ["tea==1.0"],
         files={"deps/a.txt": "-r b.txt", "deps/b.txt": "tea<2"}),
    Case("constraints", "-c limits.txt\ntea", ["tea==1.0"], files={"limits.txt": "tea<2\nmilk==7\n"}),
    Case("a list that is not there", "-r nosuch.txt", exit=66),
    Case("a repository", "leaf @ git+file://{repository}", ["leaf @ git+file://{repository}@{commit}"]),
    Case("a repository's tag", "leaf @ git+file://{repository}@v1", ["leaf @ git+file://{repository}@{commit}"]),
    Case("a repository with an egg", "git+file://{repository}#egg=leaf", ["leaf @ git+file://{repository}@{commit}"]),
    Case("an editable repository", "-e git+file://{repository}@main#egg=leaf",
         ["leaf @ git+file://{repository}@{commit}"]),
    Case("a folder of a repository", "twig @ git+file://{repository}#subdirectory=twig",
         ["twig @ git+file://{repository}@{commit}#subdirectory=twig"]),
    Case("a repository without a package, and no name", "git+file://{bare}", exit=65,
         said=["git+file://{bare}", "has neither pyproject.toml nor setup.py"]),
    Case("a repository that is not there", "leaf @ git+file:///nosuch/leaf", exit=66),
    Case("a commit that is not there", "leaf @ git+file://{repository}@" + "1" * 40, exit=66),
    Case("the task's own package", "-e .", ["tea==1.0", "-e ."], files=project("own", ["tea<2"]), run="own"),
    Case("a package in a folder", "./lib", ["tea==1.0", "./lib"], files=below("lib", project("own", ["tea<2"])),
         run="own"),
    Case("two packages in folders", "-e lib\n-e ./more", ["-e lib", "-e ./more"],
         files=below("lib", project("own")) | below("more", project("mine")), run="mine"),
    Case("a wheel in the repository", "./wheels/own-1.0-py3-none-any.whl", ["./wheels/own-1.0-py3-none-any.whl"],
         files={"wheels": "own"}, run="own"),
    Case("a file that is no package", "./notes.txt", exit=65, said=["neither a folder nor"], files={"notes.txt": ""}),
    Case("a folder whose build needs what is not there", "-e .", exit=65, said=["the project cannot be built here"],
         files={"setup.py": "import setuptools", "pyproject.toml": "[build-system]\nrequires = ['nosuchtool']\n"}),
    Case("a folder without a package", "./lib", exit=66, files={"lib/readme": ""}),
    Case("a path of another machine", "tea @ file:///home/me/tea-1.0-py3-none-any.whl", ["tea==1.0"],
         said=["is not on this machine"]),
    Case("conda's build path", "milk @ file:///croot/milk_1649/work", ["milk==1.0", "tea==1.0"]),
    Case("the repository's files", None, ["milk==1.0", "tea==1.0"],
         files={"requirements.txt": "milk", "src/requirements.txt": "tea"},
         script={"working_dir": "src", "entry_point": "train.py"}),
    Case("an empty record", "", ["tea==1.0"], files={"requirements.txt": "tea<2"}),
    Case("a record that only comments", "# nothing\n\n", [], files={"requirements.txt": "tea<2"}),
    Case("what was asked before", {"pip": "tea==1.0", "org_pip": "tea"}, ["tea==2.0"],
         env={KEY + "FORCE_ORIGINAL_REQUIREMENTS": "true"}),
    Case("clearml's conflict, frozen", "milk==1.0\ntea==2.0", ["milk==1.0", "tea==2.0"], said=["so the pins count"]),
    Case("the same, not allowed", "milk==1.0\ntea==2.0", exit=65, env={KEY + "PIP_LEGACY_RESOLVER": "[]"}),
    Case("a conflict as it was typed", "milk\ntea==2.0", exit=65),
    Case("the same name twice", "tea==1.0\ntea==2.0", exit=65),
    Case("no such package", "nosuchtea", exit=66),
    Case("no such version", "tea==1.5", exit=66),
    Case("a build that looks around", "blend\ntea<2", ["blend==1.0", "tea==1.0"], said=["comes after the rest"]),
    Case("a build that wants what setuptools has dropped", "aged", ["aged==1.0"],
         said=["its build wants pkg_resources, so sources are built with setuptools<81"]),
    Case("a part of setuptools, as Debian's pip lists it", "pkg-resources==0.0.0\npkg_resources == 0.0.0\ntea",
         ["tea==2.0"], said=["pkg-resources==0.0.0 is passed over"]),
    Case("a page of links that is gone", "-f {web}/gone.html\ntea==1.0", ["tea==1.0"],
         said=["going on without that page of links"]),
    Case("a login in a variable that is not set", "-i http://${{NOT_SET}}@{host}/private/simple\ntea", exit=77,
         said=["refuses access", "${{NOT_SET}} is not set here"], env={"PIP_NO_INDEX": "", "PIP_FIND_LINKS": ""}),
    Case("a package for an older Python", "past", ["past==1.0"], said=["past 1.0 is for Python <3.6, and gets 3."]),
    Case("a build that fails", "broken", exit=65),
    Case("a package for the end", "blend\ntea<2", ["blend==1.0", "tea==1.0"], env={KEY + "POST_PACKAGES": '["blend"]'},
         said=["after the rest: blend"]),
    Case("an optional one for the end, that fails", "broken\ntea", ["tea==2.0"],
         env={KEY + "POST_OPTIONAL_PACKAGES": '["broken"]'}, said=["going on without broken"]),
    Case("an optional one that fails", "nosuchtea\ntea", ["tea==2.0"],
         env={KEY + "PRIORITY_OPTIONAL_PACKAGES": '["nosuchtea"]'}, said=["going on without nosuchtea"]),
    Case("optional ones with hyphens, that fail one after the other", "no-such-tea\nno_more.tea\ntea", ["tea==2.0"],
         env={KEY + "POST_OPTIONAL_PACKAGES": '["no-such-tea", "no-more-tea"]'}, said=["going on without no-such-tea"]),
    Case("a flag that uv has", "milk", ["milk==1.0"], env={"CLEARML_EXTRA_PIP_INSTALL_FLAGS": "--no-deps -q"}),
    Case("a flag that stands for a line", "tea", ["tea==1.0"], env={"CLEARML_EXTRA_PIP_INSTALL_FLAGS": "-c limits.txt"},
         files={"limits.txt": "tea<2"}),
    Case("a flag that only pip has", "milk", ["milk==1.0", "tea==1.0"], tool="pip",
         env={KEY + "EXTRA_PIP_INSTALL_FLAGS": '["--use-deprecated=legacy-resolver"]'},
         said=["installing with pip: uv has no --use-deprecated"]),
    Case("pip because a variable says so", "milk\n-e .", ["milk==1.0", "tea==1.0", "-e ."], tool="pip",
         env={KEY + "TYPE": "pip"}, files=project("own"), run="own"),
    Case("a pip that there is not", "tea", exit=78, said=["pip_version asks for pip==99"],
         env={KEY + "TYPE": "pip", KEY + "PIP_VERSION": "==99"}),
    Case("a flag that nobody has", "tea", exit=78, env={"CLEARML_EXTRA_PIP_INSTALL_FLAGS": "--frobnicate"}),
    Case("a manager that nobody has", "tea", exit=78, env={KEY + "TYPE": "venv"}),
    Case("pip cannot either", "nosuchtea", exit=66, env={KEY + "TYPE": "pip"}),
    Case("clearml-agent stays what it is", "clearml-agent==1.0\ntea", ["clearml-agent==1.0", "tea==2.0"]),
    Case("old torch gets its setuptools", "torch==1.10.0", ["setuptools==58.0", "torch==1.10.0"]),
]


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """An index, the same over HTTP (with and without a password), and a repository; made once."""
    folder = str(tmp_path_factory.mktemp("shop"))
    index = os.path.join(folder, "index")
    for version in ("1.0", "2.0"):
        wheelhouse.wheel(index, "tea", version)
    wheelhouse.wheel(index, "milk", "1.0", requires=["tea<2"])
    wheelhouse.wheel(index, "green-tea", "1.0")
    wheelhouse.wheel(index, "past", "1.0", requires_python="<3.6")
    wheelhouse.wheel(index, "sugar", "1.0")
    wheelhouse.wheel(index, "torch", "1.10.0")
    wheelhouse.wheel(index, "setuptools", "58.0")
    wheelhouse.wheel(index, "setuptools", "82.0")
    wheelhouse.wheel(index, "wheel", "0.40")
    wheelhouse.wheel(index, "clearml-agent", "1.0")
    wheelhouse.wheel(index, "pot", "1.0", ['sugar; extra == "sweet"', 'tea; extra == "hot"'], extras=("sweet", "hot"))
    wheelhouse.source(index, "leaf", "1.0")
    wheelhouse.source(index, "blend", "1.0", hook="import tea")
    wheelhouse.source(index, "turned", "1.0", build=["lathe>=2"])
    wheelhouse.wheel(index, "lathe", "2.0")
    wheelhouse.source(index, "aged", "1.0", build=["setuptools"], hook="from importlib.metadata import "
                      "version; version('setuptools') == '58.0' or __import__('pkg_resources')")
    wheelhouse.wheel(os.path.join(folder, "elsewhere"), "lathe", "1.0")
    wheelhouse.source(index, "wants", "1.0", build=["nosuchtool>=3"])
    wheelhouse.source(index, "broken", "1.0", hook="raise RuntimeError('no compiler')")
    wheelhouse.wheel(os.path.join(folder, "own"), "own", "1.0")
    repository = wheelhouse.project(os.path.join(folder, "leaf"), "leaf", "1.0")
    wheelhouse.project(os.path.join(repository, "twig"), "twig", "1.0")
    for words in (["init", "-q", "-b", "main"], ["add", "-A"], ["commit", "-qm", "a state"], ["tag", "v1"]):
        subprocess.run(["git", "-c", "user.name=t", "-c", "user.email=t@example.org", *words], cwd=repository,
                       check=True)
    bare = os.path.join(folder, "bare")
    for words in (["init", "-q", bare], ["-C", bare, "commit", "-q", "--allow-empty", "-m", "a state"]):
        subprocess.run(["git", "-c", "user.name=t", "-c", "user.email=t@example.org", *words], check=True)
    with open(os.path.join(folder, "limits.txt"), "w") as file:
        file.write("nosuchtea<2\n")
    server, web = package_index.serve(index)
    other, elsewhere = package_index.serve(os.path.join(folder, "elsewhere"))
    yield {"index": index, "own": os.path.join(folder, "own"), "repository": repository, "web": f"http://{web}",
           "host": web,
           "elsewhere": f"http://{elsewhere}",
           "private": f"http://u:secret@{web}/private", "denied": f"http://u:wrong@{web}/private",
           "commit": subprocess.check_output(["git", "rev-parse", "HEAD"], cwd=repository, text=True).strip(),
           "tea1": wheelhouse.sha256(os.path.join(index, "tea-1.0-py3-none-any.whl")),
           "tea2": wheelhouse.sha256(os.path.join(index, "tea-2.0-py3-none-any.whl")),
           "milk1": wheelhouse.sha256(os.path.join(index, "milk-1.0-py3-none-any.whl")),
           "bare": bare, "limits": os.path.join(folder, "limits.txt"), "uv": os.path.join(folder, "uv")}
    server.shutdown()
    other.shutdown()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_list(machine, shop, monkeypatch, case):
    monkeypatch.setenv("PIP_FIND_LINKS", shop["index"])
    monkeypatch.setenv("UV_CACHE_DIR", shop["uv"])
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    for name, value in case.env.items():
        if value:
            monkeypatch.setenv(name, value.format(**shop))
        else:
            monkeypatch.delenv(name)
    pip = case.pip.format(**shop) if isinstance(case.pip, str) else case.pip
    requirements = pip if isinstance(pip, dict) else None
    files = {name: text for name, text in case.files.items() if name != "wheels"}
    job = machine.job(None if requirements else pip, files=files, **({"requirements": requirements} if requirements
                                                                    else {}), **case.script)
    if "wheels" in case.files:
        os.symlink(shop[case.files["wheels"]], os.path.join(job.manifest["fetch"]["code"], "wheels"))
    from agentpipe.cmds import agent_env
    if case.exit:
        with pytest.raises(errors.Failure) as caught:
            agent_env.work(job)
        assert caught.value.exit == case.exit, (caught.value.reason, caught.value.evidence)
        assert all(word.format(**shop) in caught.value.reason for word in case.said), caught.value.reason
        assert caught.value.remedy
        assert "secret" not in caught.value.reason + caught.value.evidence
        return
    env = agent_env.work(job)
    said = "".join(machine.said)
    assert env["packages"] == [line.format(**shop) for line in case.installed], said
    assert env["installer"] == case.tool, said
    assert all(word in said for word in case.said), said
    assert "secret" not in said
    if case.run:
        assert python(env, f"import {case.run}; print({case.run}.__name__)") == case.run
    # the same list again is the same environment, found at once
    assert agent_env.work(job)["cached"]
