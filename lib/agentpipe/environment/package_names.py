"""Names of packages that people get wrong: modules that are called otherwise than their package, and typing errors."""

from __future__ import annotations

import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

# module -> the package that brings it
MODULES = {
    "absl": "absl-py", "attr": "attrs", "bs4": "beautifulsoup4", "Crypto": "pycryptodome", "cv2": "opencv-python",
    "dateutil": "python-dateutil", "distutils": "setuptools",
    "docx": "python-docx", "dotenv": "python-dotenv", "faiss": "faiss-cpu", "fitz": "PyMuPDF", "git": "GitPython",
    "grpc": "grpcio", "hydra": "hydra-core", "igraph": "python-igraph", "jose": "python-jose", "jwt": "PyJWT",
    "lightning_fabric": "lightning", "magic": "python-magic", "mysql": "mysql-connector-python",
    "MySQLdb": "mysqlclient", "OpenSSL": "pyOpenSSL",
    "osgeo": "GDAL", "PIL": "Pillow", "psycopg2": "psycopg2-binary", "pkg_resources": "setuptools",
    "pl_bolts": "lightning-bolts", "pptx": "python-pptx", "pynvml": "nvidia-ml-py",
    "serial": "pyserial", "skimage": "scikit-image", "sklearn": "scikit-learn", "sksurv": "scikit-survival",
    "skopt": "scikit-optimize", "snappy": "python-snappy",
    "umap": "umap-learn", "usb": "pyusb", "websocket": "websocket-client", "yaml": "PyYAML",
    "zmq": "pyzmq"}
# well-known packages whose module has their name
_PACKAGES = (
    "accelerate aiofiles aiohttp albumentations altair anyio astropy attrs bitsandbytes bokeh boto3 botocore botorch "
    "cachetools catboost certifi cffi cftime charset-normalizer clearml click cloudpickle colorama cryptography cupy "
    "cvxpy cython dask datasets deepspeed diffusers dill distributed docker einops emcee evaluate fastapi "
    "filelock fire flask flax folium fsspec ftfy fvcore gcsfs gensim geopandas gpytorch gym gymnasium h5netcdf h5py "
    "httpx huggingface-hub hypothesis idna imageio ipykernel ipython ipywidgets jax jaxlib jinja2 jiwer joblib "
    "jsonschema jupyter keras kornia librosa lightgbm lightning line-profiler llvmlite loguru lpips lxml lz4 markdown "
    "matplotlib memory-profiler ml-collections mlflow mmengine monai mpi4py msgpack multidict mypy natsort nbformat "
    "netcdf4 networkx nibabel ninja nltk numba numexpr numpy nvitop omegaconf onnx onnxruntime open3d openai openpyxl "
    "optax optuna orjson packaging pandas papermill paramiko pathspec peft pexpect platformdirs plotly pluggy "
    "polars prettytable psutil psycopg pyarrow pybind11 pycocotools pydantic pydicom pygments pymongo pyproj pytest "
    "pytorch-lightning pyvista rasterio ray redis regex requests rich rtree s3fs sacrebleu safetensors scipy "
    "seaborn sentence-transformers sentencepiece setuptools shap shapely simplejson six soundfile spacy sqlalchemy "
    "starlette statsmodels streamlit sympy tables tabulate tblib tensorboard tensorboardx tensorflow "
    "tensorflow-datasets tensorflow-hub tensorflow-probability termcolor threadpoolctl tiktoken timm tokenizers toml "
    "tomli tomli-w tomlkit toolz torch torchaudio torchinfo torchmetrics torchsummary torchvision tornado tqdm "
    "transformers trimesh triton trl typer typing-extensions ujson ultralytics unidecode urllib3 uvicorn vllm wandb "
    "watchdog websockets xarray xformers xgboost xlrd xmltodict yacs yarl zarr zstandard")
PACKAGES = frozenset(_PACKAGES.split())
# of Python's own modules those that many scripts import: before the others a well-known package is meant
_COMMON = (
    "abc argparse array ast asyncio base64 bisect collections concurrent configparser contextlib copy csv ctypes "
    "dataclasses datetime decimal enum fractions functools gc getpass glob gzip hashlib heapq html http importlib "
    "inspect io itertools json logging math multiprocessing operator os pathlib pickle platform pprint queue random "
    "re sched shlex shutil signal socket sqlite3 ssl statistics string struct subprocess sys tarfile tempfile "
    "textwrap threading time timeit tkinter traceback types typing unittest urllib uuid warnings weakref xml "
    "zipfile")
COMMON = frozenset(_COMMON.split())
# names that no index has, and what is meant
MEANT = {"opencv": "opencv-python", "cv": "opencv-python", "sklearn": "scikit-learn", "pytorch": "torch",
         "skimage": "scikit-image", "hugging-face": "huggingface-hub",
         "beautifulsoup": "beautifulsoup4", "mysql": "mysqlclient"}


def of_module(module: str) -> str:
    """The package that brings a module ("sklearn.svm"), where that is certain; "" otherwise."""
    top = module.split(".")[0]
    if top in MODULES:
        return MODULES[top]
    name = _normalised(top)
    return name if name in PACKAGES else ""


def is_known(package: str) -> bool:
    """Whether a package of that name is a well-known one."""
    return _normalised(package.partition("[")[0]) in PACKAGES | {_normalised(each) for each in MODULES.values()}


def meant_by(name: str) -> str:
    """What a name that no index knows most likely means; "" when nothing is near."""
    import difflib
    name = _normalised(name)
    modules = {_normalised(module): package for module, package in MODULES.items()}
    known = {**{each: each for each in PACKAGES}, **{_normalised(each): each for each in MODULES.values()}}
    found = MEANT.get(name) or modules.get(name)
    if not found:
        # one letter too few, too many or exchanged; short names are near to too much
        near = difflib.get_close_matches(name, known, 1, 0.85) if len(name) > 4 else []
        found = known[near[0]] if near else ""
    return "" if _normalised(found) == name else found


def module_meant(module: str, own: Iterable[str] = ()) -> str:
    """The module that an import of `module` most likely means; "" when nothing is near.

    That of the package with this name (`import pillow`), or one that is spelt nearly so: of `own` (modules that the
    task has, and those of its packages), of Python's, or of a well-known package.
    """
    import difflib
    import sys
    if module.split(".")[0] in sys.stdlib_module_names:
        return ""
    brought = {_normalised(package): name for name, package in MODULES.items() if _normalised(package) not in PACKAGES}
    brought |= {name: brought.get(_normalised(package)) or package for name, package in MEANT.items()}
    name = _normalised(module)
    found = brought.get(name, "")
    packages = [*MODULES, *(each.replace("-", "_") for each in sorted(PACKAGES))]
    for known in (own, sorted(COMMON & sys.stdlib_module_names), packages, sorted(sys.stdlib_module_names)):
        near = {_normalised(each): each for each in known}
        found = found or near.get(name, "")  # in other letters: `import pil`
        if not found and len(name) > 3:
            # short names are near to too much
            close = [each for each in near if _is_one_apart(name, each)
                     and (len(name) > 4 or sorted(name) == sorted(each))]
            close = close or (difflib.get_close_matches(name, near, 1, 0.9) if len(name) > 8 else [])
            found = near[close[0]] if close else ""
    return "" if found == module else found


def module_of(package: str) -> str:
    """How the module of a package is called, as far as that is known: its own name else."""
    name = _normalised(package)
    return next((module for module, each in MODULES.items() if _normalised(each) == name), name.replace("-", "_"))


def _is_one_apart(a: str, b: str) -> bool:
    """Whether one letter is too few, too many or another, or two neighbours are exchanged."""
    if len(a) > len(b):
        a, b = b, a
    at = next((at for at, (one, other) in enumerate(zip(a, b, strict=False)) if one != other), len(a))
    rest, other = a[at:], b[at:]
    if len(a) < len(b):
        return rest == other[1:]
    return rest[1:] == other[1:] or (rest[:2] == other[1::-1] and rest[2:] == other[2:])


def _normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
