"""Small real wheels and source packages, written here, so that tests install them without a network."""

import base64
import hashlib
import os
import tarfile
import zipfile


def sha256(path):
    """The hash of a file, as indexes and receipts give it."""
    with open(path, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()


def wheel(folder, name, version, requires=(), files=(), scripts=(), requires_python=">=3.6", extras=()):
    """Write NAME-VERSION-py3-none-any.whl: a module that knows its version, `files` {path: text} more, entry points."""
    os.makedirs(folder, exist_ok=True)
    module, record = name.replace("-", "_"), f"{name.replace('-', '_')}-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\nRequires-Python: {requires_python}\n"
    metadata += "".join(f"Provides-Extra: {extra}\n" for extra in extras)
    metadata += "".join(f"Requires-Dist: {line}\n" for line in requires)
    content = {
        f"{module}/__init__.py": f"version = {version!r}\n\n\ndef main():\n    print({name!r}, version)\n",
        f"{record}/METADATA": metadata + "\n",
        f"{record}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        **dict(files),
    }
    if scripts:
        lines = "".join(f"{script} = {module}:main\n" for script in scripts)
        content[f"{record}/entry_points.txt"] = f"[console_scripts]\n{lines}"
    rows = []
    path = os.path.join(folder, f"{module}-{version}-py3-none-any.whl")
    with zipfile.ZipFile(path, "w") as archive:
        for inside, text in content.items():
            archive.writestr(inside, text)
            digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
            rows.append(f"{inside},sha256={digest},{len(text.encode())}\n")
        archive.writestr(f"{record}/RECORD", "".join(rows) + f"{record}/RECORD,,\n")
    return path


# builds wheels without any other package; waits where a test tells it to
BACKEND = '''
import os, sys
sys.path.insert(0, {here!r})
import wheelhouse

def get_requires_for_build_wheel(config_settings=None):
    return []

get_requires_for_build_editable = get_requires_for_build_wheel

def build_wheel(target, config_settings=None, metadata_directory=None):
    {hook}
    return os.path.basename(wheelhouse.wheel(target, {name!r}, {version!r}, {requires!r}))

def build_editable(target, config_settings=None, metadata_directory=None):
    pth = {{{name!r}.replace("-", "_") + "_editable.pth": os.getcwd() + "\\n"}}
    return os.path.basename(wheelhouse.wheel(target, {name!r}, {version!r}, {requires!r}, pth))
'''
PYPROJECT = """[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]

[project]
name = "{name}"
dynamic = ["version", "dependencies"]
"""


def project(folder, name, version, requires=(), hook="pass", build=()):
    """A folder with a package, built by a backend of its own; `hook` is a statement that its build executes, `build`
    what is installed for that (then its metadata need no build: it is built when it is installed)."""
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, "pyproject.toml"), "w") as file:
        text = PYPROJECT.format(name=name)
        if build:
            text = text.replace("requires = []", f"requires = {list(build)}").replace(
                'dynamic = ["version", "dependencies"]', f'version = "{version}"')
        file.write(text)
    with open(os.path.join(folder, "backend.py"), "w") as file:
        file.write(BACKEND.format(here=os.path.dirname(os.path.abspath(__file__)), hook=hook, name=name,
                                  version=version, requires=list(requires)))
    return folder


def source(folder, name, version, requires=(), hook="pass", build=()):
    """NAME-VERSION.tar.gz of such a folder."""
    inside = f"{name.replace('-', '_')}-{version}"
    made = project(os.path.join(folder, inside + ".tree"), name, version, requires, hook, build)
    with open(os.path.join(made, "PKG-INFO"), "w") as file:
        file.write(f"Metadata-Version: {'2.2' if build else '2.1'}\nName: {name}\nVersion: {version}\n")
    path = os.path.join(folder, f"{inside}.tar.gz")
    with tarfile.open(path, "w:gz") as archive:
        archive.add(made, inside)
    return path
