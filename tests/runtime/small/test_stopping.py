"""A signal ends a process as Ctrl-C does, wherever it finds it."""

import os
import signal
import subprocess
import sys

import pytest

PRELUDE = """
import os, signal, time
from prunekit_runtime.stopping import stop_code, stop_on_signals, stop_sentence
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # which the tests may have been told to ignore, by nohup
stop_on_signals()
class Finaliser:
    def __del__(self):
        os.kill(os.getpid(), signal.{name})
        for _ in range(1000): pass
try:
    {body}
    time.sleep(20)
    print("lost")
except KeyboardInterrupt as stop:
    print(stop_sentence(stop))
    raise SystemExit(stop_code(stop))
"""
BODIES = {
    "plain": "os.kill(os.getpid(), signal.{name})",
    "in a finaliser": "Finaliser()",
    "in a hook of fork": "os.register_at_fork(after_in_parent=lambda: os.kill(os.getpid(), signal.{name})); "
    "os.fork() or os._exit(0)",
}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
@pytest.mark.parametrize(("name", "code"), [("SIGTERM", 143), ("SIGHUP", 129), ("SIGINT", 130)])
def test_a_signal_is_never_lost(body, name, code):
    if name == "SIGINT":
        body = "signal.signal(signal.SIGINT, signal.default_int_handler); " + body
    script = PRELUDE.replace("{body}", body).replace("{name}", name)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment, timeout=60)
    assert done.returncode == code, done.stderr
    assert done.stdout == ("Interrupted.\n" if name == "SIGINT" else f"Interrupted by {name}.\n")
    assert not done.stderr


def test_other_processes_take_the_signal_as_ever():
    script = """
import os, signal, sys, time
from prunekit_runtime.stopping import stop_on_signals
stop_on_signals()
ready, begun = os.pipe()
child = os.fork()
if not child:
    os.write(begun, b"x")
    time.sleep(20)
    os._exit(0)
os.read(ready, 1)
os.kill(child, signal.SIGTERM)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGTERM
"""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL  # of the tests themselves
