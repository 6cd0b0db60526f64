import sys

import pytest

from prunekit_export.errors import ExportError
from prunekit_export.require import require


@pytest.mark.parametrize(("package", "extra"), [("tensorrt", "prunekit[trt]"), ("tensorrt_rtx", "prunekit[rtx]")])
def test_missing_package_names_its_extra(package: str, extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ExportError, match=package) as caught:
        require(package)
    assert extra in str(caught.value)
