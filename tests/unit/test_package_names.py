"""What people call a package, and how it is called."""

import pytest

from agentpipe.environment.package_names import meant_by, of_module


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
