"""What people call a package, and how it is called."""

import pytest

from agentpipe.environment.package_names import meant_by, module_meant, module_of, of_module


@pytest.mark.parametrize(("module", "package"), [
    ("sklearn.svm", "scikit-learn"), ("cv2", "opencv-python"), ("PIL", "Pillow"), ("yaml", "PyYAML"), ("bs4",
    "beautifulsoup4"), ("skimage", "scikit-image"), ("dateutil", "python-dateutil"), ("dotenv", "python-dotenv"),
    ("numpy", "numpy"), ("torch.nn", "torch"), ("IPython", "ipython"),
    ("helper", ""), ("utils", ""), ("model", ""),
])
def test_a_module_names_its_package_only_where_that_is_certain(module: str, package: str) -> None:
    assert of_module(module) == package


@pytest.mark.parametrize(("name", "package"), [
    ("numppy", "numpy"), ("opencv", "opencv-python"), ("PIL", "Pillow"), ("cv2", "opencv-python"),
    ("Sklearn", "scikit-learn"), ("requets", "requests"), ("matplotlb", "matplotlib"), ("scikit_lern", "scikit-learn"),
    ("our-own-library", ""), ("numpy", ""), ("ab", ""),
])
def test_a_name_that_no_index_has_leads_to_the_one_that_is_meant(name: str, package: str) -> None:
    assert meant_by(name) == package


@pytest.mark.parametrize(("module", "meant"), [
    ("torchh", "torch"), ("tqmd", "tqdm"), ("cofigparser", "configparser"), ("pillow", "PIL"), ("pytorch", "torch"),
    ("sentence_transformer", "sentence_transformers"), ("our_libary", "our_library"), ("pkg.utlis", "pkg.utils"),
    # what is spelt right, and what is short or far from all
    ("numpy", ""), ("attrs", ""), ("lightning", ""), ("json", ""), ("utils", ""), ("models", ""), ("tool", ""),
    ("ab", ""), ("nowhere", ""),
])
def test_an_import_leads_to_the_module_that_is_meant(module: str, meant: str) -> None:
    assert module_meant(module, ["our_library", "pkg.utils"]) == meant


def test_the_module_of_a_package_is_called_otherwise_or_the_same() -> None:
    assert (module_of("Pillow"), module_of("huggingface-hub"), module_of("six")) == ("PIL", "huggingface_hub", "six")
