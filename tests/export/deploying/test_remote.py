"""Commands and folders on a device, over a real sshd on loopback."""

import hashlib
import sys
import threading
import time
from pathlib import Path

import pytest

from prunekit_export.errors import DeviceError, ExportUsageError
from prunekit_export.remote import Host, Target, copy_folder, copying

WRITING = """
import pathlib, sys, time
while True:
    pathlib.Path(sys.argv[1]).write_text(str(time.time()))
    time.sleep(0.05)
"""


def hashes(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture
def folder(tmp_path):
    """Return some files, one of them large, one with odd bytes, one in a folder."""
    root = tmp_path / "bundle"
    (root / "models").mkdir(parents=True)
    (root / "bundle.json").write_text("{}")
    (root / "models/fp32.onnx").write_bytes(bytes(range(256)) * 8000)
    (root / "models/a name.onnx").write_bytes(b"\x00\xff\n")
    return root


@pytest.fixture
def target(request):
    return Target(f"work/{abs(hash(request.node.name)) % 10**8}", "bundle", sys.executable)


@pytest.mark.parametrize(
    "name", ["-oProxyCommand=touch x", "a b", "", "a;b", "$(x)", "user@", "a\nb", "a@b@c", "@orin", "`x`", "x" * 400]
)
def test_a_host_that_ssh_or_a_shell_could_take_for_more_is_refused(name):
    with pytest.raises(ExportUsageError, match="is no host"):
        Host(name)


@pytest.mark.parametrize(("name", "folder"), [("nvidia@orin", "nvidia_orin"), ("fe80::1%eth0", "fe80__1_eth0")])
def test_a_device_has_a_folder_for_its_reports(name, folder):
    assert Host(name).folder == folder


def test_a_command_gives_its_output_lines_and_code(device):
    lines: list[str] = []
    done = device.session().run(
        [sys.executable, "-c", "import sys; print('a b'); sys.stderr.write('one\\ntwo\\x1b[2J\\n'); sys.exit(3)"],
        on_line=lines.append,
    )
    assert (done.code, done.output) == (3, b"a b\n")
    assert lines == ["one", "two\\x1b[2J"]


@pytest.mark.parametrize("argument", ["two words", "a'b\"c", "$HOME `id`", "*", "-n", "ü", "a;b|c&d"])
def test_arguments_arrive_as_they_are(device, argument):
    done = device.session().run([sys.executable, "-c", "import sys; print(sys.argv[1])", argument])
    assert done.output.decode() == argument + "\n"


def test_a_folder_that_is_not_there_fails_and_runs_nothing(device):
    done = device.session().run(["echo", "ran"], folder="no/such folder")
    assert done.code != 0
    assert done.output == b""


@pytest.mark.parametrize("name", ["locked", "nowhere"])
def test_a_device_that_refuses_is_one_error_that_names_it(device, name):
    with pytest.raises(DeviceError, match=rf"{name} cannot be reached.*ssh {name} true"):
        device.session(name).run(["true"])


def test_the_end_of_a_session_ends_what_runs_there(device, tmp_path):
    session, mark = device.session(), tmp_path / "alive"
    raised: list[BaseException] = []

    def run() -> None:
        try:
            session.run([sys.executable, "-c", WRITING, str(mark)])
        except DeviceError as error:
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    wait_until(mark.exists)
    session.end()
    thread.join(30)
    assert raised
    wait_until(lambda: is_still(mark))


def test_a_lost_connection_ends_what_runs_there_and_is_an_error(device, tmp_path):
    session, mark = device.session(), tmp_path / "alive"
    killer = threading.Thread(target=lambda: (wait_until(mark.exists), kill_all(session)))
    killer.start()
    with pytest.raises(DeviceError, match="connection was lost"):
        session.run([sys.executable, "-c", WRITING, str(mark)])
    killer.join()
    wait_until(lambda: is_still(mark))


@pytest.mark.parametrize("has_rsync", [True, False])
def test_a_folder_is_copied_whole(device, folder, target, has_rsync, monkeypatch):
    session = device.session()
    if not has_rsync:
        monkeypatch.setattr(copying.shutil, "which", lambda _: None)
    told: list[tuple[int, int]] = []
    copy_folder(session, folder, hashes(folder), target, lambda *step: told.append(step))
    assert hashes(device.home / target.path) == hashes(folder)
    assert told[-1][0] == told[-1][1] > 2_000_000
    told.clear()
    copy_folder(session, folder, hashes(folder), target, lambda *step: told.append(step))
    assert not told  # nothing was sent again


def test_what_was_built_there_stays_when_the_bundle_changes(device, folder, target):
    session = device.session()
    copy_folder(session, folder, hashes(folder), target)
    there = device.home / target.path
    (there / "built").mkdir()
    (there / "built/fp32.plan").write_text("an engine")
    (there / "models/leftover").write_text("of an older bundle")
    (folder / "bundle.json").write_text('{"version": 1}')
    copy_folder(session, folder, hashes(folder), target)
    assert (there / "built/fp32.plan").read_text() == "an engine"
    assert (there / "bundle.json").read_text() == '{"version": 1}'
    assert not (there / "models/leftover").exists()
    assert [path.name for path in there.parent.iterdir()] == ["bundle"]


def test_a_copy_that_breaks_off_leaves_nothing_under_the_final_name_and_is_gone_on_with(device, folder, target):
    files = hashes(folder)
    for _ in range(3):
        session = device.session()
        session.end()
        with pytest.raises(DeviceError):
            copy_folder(session, folder, files, target)
    part = device.home / target.part
    part.mkdir(parents=True)
    (part / "models").mkdir()
    (part / "models/fp32.onnx").write_bytes((folder / "models/fp32.onnx").read_bytes())
    (part / "bundle.json").write_text("cut o")
    assert not (device.home / target.path).exists()
    sent: list[int] = []
    copy_folder(device.session(), folder, files, target, lambda _, size: sent.append(size))
    assert max(sent) < 100  # the large file was there
    assert hashes(device.home / target.path) == files


def test_a_wrong_byte_on_the_way_is_noticed(device, folder, target):
    files = {**hashes(folder), "bundle.json": "0" * 64}
    with pytest.raises(DeviceError, match=r"not copied in full: bundle\.json"):
        copy_folder(device.session(), folder, files, target)
    assert not (device.home / target.path).exists()


def test_a_device_without_python_says_so(device, folder):
    with pytest.raises(DeviceError, match=r"no-such-python"):
        copy_folder(device.session(), folder, hashes(folder), Target("work", "bundle", "no-such-python"))


def is_still(mark: Path) -> bool:
    before = mark.read_text()
    time.sleep(0.5)
    return mark.read_text() == before


def kill_all(session) -> None:
    for process in list(session._running):
        process.kill()


def wait_until(is_so) -> None:
    for _ in range(200):
        if is_so():
            return
        time.sleep(0.1)
    raise AssertionError("it did not come to that")
