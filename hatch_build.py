"""Builds wheels whose codecs are compiled: `HATCH_BUILD_HOOK_ENABLE_CUSTOM=true pip wheel .` (or `make compiled`).

The source stays as it is, and what it does too: the same modules are translated to C by mypyc, from the types that mypy checks, and lie
beside their source in the wheel, where Python prefers them. Only codecs, as they are pure: no coroutine, no socket, no clock. Nothing is
ever compiled inside the source tree, where a stale module would hide what was written since. docs/decisions/0010 says what it brings.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

COMPILED = "gateway/native/codec"
_PACKAGES = ("discovery", "gateway")  # what the codecs' types come from

_SETUP = """
import sys
from mypyc.build import mypycify
from setuptools import setup
setup(name="codecs", packages=[], py_modules=[], ext_modules=mypycify(sys.argv.pop().split(), opt_level="3", debug_level="0"))
"""


class CustomBuildHook(BuildHookInterface):
    """See the module. Raises RuntimeError, with what the compiler said, when it cannot be built."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version == "editable":
            raise RuntimeError("an editable install is never compiled: a stale module would hide the source; build a wheel")
        root = Path(self.root)
        modules = sorted(str(path.relative_to(root)) for path in (root / COMPILED).glob("*.py") if _may(path))
        self._folder = Path(tempfile.mkdtemp(prefix="codecs-"))
        for package in _PACKAGES:
            shutil.copytree(root / package, self._folder / package, ignore=shutil.ignore_patterns("__pycache__", "*.so"))
        (self._folder / "setup.py").write_text(_SETUP)
        command = [sys.executable, "setup.py", "--quiet", "build_ext", "--inplace", " ".join(modules)]
        done = subprocess.run(command, cwd=self._folder, env={**os.environ, "MYPYPATH": "."}, capture_output=True, text=True)
        if done.returncode:
            shutil.rmtree(self._folder, ignore_errors=True)
            raise RuntimeError(
                f"the codecs could not be compiled (a C compiler and Python's headers are needed):\n{done.stdout}{done.stderr}"
            )
        built = [path for path in self._folder.rglob("*.so") if "build" not in path.relative_to(self._folder).parts]
        build_data["force_include"].update({str(path): str(path.relative_to(self._folder)) for path in built})
        build_data["pure_python"] = False
        build_data["infer_tag"] = True

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)


def _may(module: Path) -> bool:
    """mypyc passes over what a msgspec Struct says of itself (`frozen`, `kw_only`): modules with one stay as they are."""
    return module.name != "__init__.py" and "import msgspec" not in module.read_text()
