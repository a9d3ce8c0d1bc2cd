"""What pyproject.toml cannot say: the packages that are found, and that `pages/` is installed as `explorer._pages`."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["resnet*", "explorer*"]), "explorer._pages"],
    package_dir={"explorer._pages": "pages"},
)
