# SPDX-License-Identifier: LGPL-3.0-or-later
"""Runs CMake for pip; the metadata is in pyproject.toml."""

import os
import subprocess
import sys
from pathlib import Path

import pybind11
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

SOURCE = Path(__file__).parent.resolve()
# One library that does not depend on the version of Python, one that does.
OPERATORS = "libdeepmd_mask.so"


class CMakeBuild(build_ext):
    """Build both libraries and put them into the package."""

    def run(self):
        """Configure, build and install into the place that setuptools expects."""
        build = Path(self.build_temp).resolve()
        prefix = SOURCE if self.editable_mode else Path(self.build_lib).resolve()
        configure = [
            "cmake",
            f"-S{SOURCE}",
            f"-B{build}",
            "-GNinja",
            f"-DPython_EXECUTABLE={sys.executable}",
            f"-Dpybind11_DIR={pybind11.get_cmake_dir()}",
            f"-DCMAKE_INSTALL_PREFIX={prefix}",
            *os.environ.get("DPMASK_CMAKE_ARGS", "").split(),
        ]
        subprocess.run(configure, check=True)
        subprocess.run(["cmake", "--build", str(build), "--target", "install"], check=True)

    def get_outputs(self):
        """List what run() has installed."""
        package = Path(self.build_lib) / "deepmd_mask"
        return [str(package / OPERATORS), self.get_ext_fullpath("deepmd_mask._kernels")]


setup(ext_modules=[Extension("deepmd_mask._kernels", [])], cmdclass={"build_ext": CMakeBuild})
