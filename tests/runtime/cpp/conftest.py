"""Builds the C++ runner once, on a stand-in for TensorRT and CUDA: it tests our code, not NVIDIA's.

PRUNEKIT_CPP_SANITIZE=1 builds it with checks of addresses and of undefined behaviour; PRUNEKIT_CPP_BUILD names a folder
that is kept, so that the next run builds only what has changed.
"""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[3] / "deploy" / "cpp"
INCLUDES = (Path("/usr/include"), Path("/usr/local/include"), Path("/usr/include/opencv4"))


def has_header(name: str) -> bool:
    return any((folder / name).exists() for folder in INCLUDES)


@pytest.fixture(scope="session")
def cpp_build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder that holds contract_tool and, where OpenCV is there, prunekit_runner."""
    missing = [name for name in ("cmake", "g++") if shutil.which(name) is None]
    missing += [] if has_header("nlohmann/json.hpp") else ["nlohmann/json.hpp (Debian: nlohmann-json3-dev)"]
    if missing:
        pytest.skip(f"the C++ runner cannot be built here: there is no {', '.join(missing)}")
    kept = os.environ.get("PRUNEKIT_CPP_BUILD")
    folder = Path(kept) if kept else tmp_path_factory.mktemp("cpp")
    options = {
        "PRUNEKIT_TESTS": True,
        "PRUNEKIT_STANDIN": True,
        "PRUNEKIT_RUNNER": has_header("opencv2/imgcodecs.hpp"),
        "PRUNEKIT_SANITIZE": bool(os.environ.get("PRUNEKIT_CPP_SANITIZE")),
    }
    flags = [f"-D{name}={'ON' if value else 'OFF'}" for name, value in options.items()]
    for command in (["cmake", "-S", SOURCE, "-B", folder, *flags], ["cmake", "--build", folder, "-j2"]):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="session")
def runner(cpp_build: Path) -> Path:
    """Return prunekit_runner, linked with the stand-in."""
    path = cpp_build / "prunekit_runner"
    if not path.exists():
        pytest.skip("prunekit_runner cannot be built here: there is no OpenCV (Debian: libopencv-imgcodecs-dev)")
    return path
