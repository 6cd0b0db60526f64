"""What the C++ runner asks of TensorRT exists in every release, and the stand-in declares no more than that."""

import json
import re
from pathlib import Path

import pytest

CPP = Path(__file__).parents[3] / "deploy" / "cpp"
API = json.loads((Path(__file__).parents[1] / "running" / "tensorrt_api.json").read_text())
# The same member in the Python package, whose names were listed for each release.
IN_PYTHON = {
    "IRuntime": {"deserializeCudaEngine": "deserialize_cuda_engine"},
    "ICudaEngine": {
        "getNbIOTensors": "num_io_tensors",
        "getIOTensorName": "get_tensor_name",
        "getTensorIOMode": "get_tensor_mode",
        "getTensorDataType": "get_tensor_dtype",
        "getTensorFormat": "get_tensor_format",
        "getTensorShape": "get_tensor_shape",
        "getProfileShape": "get_tensor_profile_shape",
        "createExecutionContext": "create_execution_context",
    },
    "IExecutionContext": {
        "setInputShape": "set_input_shape",
        "getTensorShape": "get_tensor_shape",
        "setTensorAddress": "set_tensor_address",
        "enqueueV3": "execute_async_v3",
    },
}
MEMBERS = {"runtime_": "IRuntime", "engine_": "ICudaEngine", "context_": "IExecutionContext"}


def used() -> set[tuple[str, str]]:
    source = "".join(path.read_text() for path in (CPP / "src").rglob("*.cpp"))
    calls = re.findall(r"\b(runtime_|engine_|context_)->(\w+)", source)
    return {(MEMBERS[member], name) for member, name in calls}


def test_the_stand_in_declares_what_is_used_and_no_more() -> None:
    header = (CPP / "standin" / "tensorrt" / "NvInferRuntime.h").read_text()
    declared = {
        (owner, name)
        for owner, body in re.findall(r"class (I\w+) \{(.*?)\n\};", header, re.DOTALL)
        for name in re.findall(r"virtual [^~(]*?(\w+)\(", body)
    }
    assert declared == used() | {("ILogger", "log")}
    assert {(owner, name) for owner, names in IN_PYTHON.items() for name in names} == used()


@pytest.mark.parametrize("version", sorted(API))
def test_every_name_exists_in_every_version(version: str) -> None:
    for owner, names in IN_PYTHON.items():
        members = API[version]["Runtime" if owner == "IRuntime" else owner]
        assert set(names.values()) <= set(members)
    assert {"FLOAT", "UINT8"} <= set(API[version]["DataType"])
