"""What is done with files on a device: sent as text and run by its python3, so only Python 3.8 and no package."""

import hashlib
import json
import os
import shutil
import sys

CHUNK = 1 << 20


def sha256_of(path):  # type: ignore[no-untyped-def]  # runs on the device
    """Return the hash of a file."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while True:
            chunk = file.read(CHUNK)
            if not chunk:
                return digest.hexdigest()
            digest.update(chunk)


def inventory(folder):  # type: ignore[no-untyped-def]
    """Return {path: hash} of the files of a folder; {} where there is none."""
    found = {}
    for place, _, files in os.walk(folder):
        for name in files:
            path = os.path.join(place, name)
            if os.path.isfile(path) and not os.path.islink(path):
                found[os.path.relpath(path, folder).replace(os.sep, "/")] = sha256_of(path)
    return found


def begin(root, name):  # type: ignore[no-untyped-def]
    """Make the hidden folder that is copied into, and say what is in it and in the one with the final name."""
    part = os.path.join(root, "." + name + ".part")
    os.makedirs(part, exist_ok=True)
    final = inventory(os.path.join(root, name))
    json.dump({"part": inventory(part), "final": final, "rsync": bool(shutil.which("rsync"))}, sys.stdout)


def publish(root, name):  # type: ignore[no-untyped-def]
    """Hold the hidden folder to the manifest that comes by standard input, and give it the final name."""
    wanted = json.load(sys.stdin)
    part, final = os.path.join(root, "." + name + ".part"), os.path.join(root, name)
    found = inventory(part)
    for path in sorted(set(found) - set(wanted)):
        os.unlink(os.path.join(part, path))
    wrong = sorted(path for path in wanted if found.get(path) != wanted[path])
    if wrong:
        sys.exit("not copied in full: " + ", ".join(wrong[:5]))
    old = os.path.join(root, "." + name + ".old")
    shutil.rmtree(old, ignore_errors=True)
    if os.path.isdir(final):
        for kept in ("built", "reports"):  # engines are found by their key, and built again where it does not fit
            if os.path.isdir(os.path.join(final, kept)) and not os.path.exists(os.path.join(part, kept)):
                os.rename(os.path.join(final, kept), os.path.join(part, kept))
        os.rename(final, old)
    os.rename(part, final)
    shutil.rmtree(old, ignore_errors=True)


if __name__ == "__main__":
    {"begin": begin, "publish": publish}[sys.argv[1]](*sys.argv[2:])
