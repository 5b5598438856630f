"""Names of packages that people get wrong: modules that are called otherwise than their package, and typing errors."""

import re

# module -> the package that brings it
MODULES = {
    "absl": "absl-py", "attr": "attrs", "bs4": "beautifulsoup4", "Crypto": "pycryptodome", "cv2": "opencv-python",
    "dateutil": "python-dateutil",
    "docx": "python-docx", "dotenv": "python-dotenv", "faiss": "faiss-cpu", "fitz": "PyMuPDF", "git": "GitPython",
    "grpc": "grpcio", "hydra": "hydra-core", "igraph": "python-igraph", "jose": "python-jose", "jwt": "PyJWT",
    "lightning_fabric": "lightning", "magic": "python-magic", "MySQLdb": "mysqlclient", "OpenSSL": "pyOpenSSL",
    "osgeo": "GDAL", "PIL": "Pillow", "psycopg2": "psycopg2-binary", "pkg_resources": "setuptools",
    "pl_bolts": "lightning-bolts", "pptx": "python-pptx", "pynvml": "nvidia-ml-py",
    "serial": "pyserial", "skimage": "scikit-image", "sklearn": "scikit-learn", "sksurv": "scikit-survival",
    "skopt": "scikit-optimize", "snappy": "python-snappy",
    "umap": "umap-learn", "usb": "pyusb", "websocket": "websocket-client", "yaml": "PyYAML",
    "zmq": "pyzmq"}
# well-known packages whose module has their name
_PACKAGES = (
    "accelerate aiohttp albumentations altair bitsandbytes bokeh boto3 catboost clearml click "
    "cupy cython dask datasets deepspeed diffusers docker einops evaluate fastapi fire flask flax fsspec gensim gym "
    "gymnasium h5py httpx huggingface-hub imageio ipython jax jaxlib jinja2 joblib jupyter keras kornia lightgbm "
    "lightning loguru lxml matplotlib mlflow mpi4py msgpack mypy networkx nltk numba numexpr numpy omegaconf onnx "
    "onnxruntime openai openpyxl optax optuna orjson packaging pandas peft plotly polars prettytable psutil "
    "pyarrow pydantic pymongo pytest pytorch-lightning ray redis regex requests rich safetensors scipy seaborn "
    "sentence-transformers sentencepiece shap simplejson six spacy sqlalchemy statsmodels streamlit sympy tables "
    "tabulate tensorboard tensorflow termcolor tiktoken timm tokenizers torch torchaudio torchmetrics torchvision "
    "tqdm transformers typer typing-extensions ujson uvicorn wandb xarray xgboost xlrd zarr")
PACKAGES = frozenset(_PACKAGES.split())
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


def _normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
