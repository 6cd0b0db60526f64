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
    """Say whether the folder is there as the hashes that come by standard input want it, else what there is of it."""
    wanted = json.load(sys.stdin)
    part, final = os.path.join(root, "." + name + ".part"), inventory(os.path.join(root, name))
    is_there = all(final.get(path) == wanted[path] for path in wanted)
    if is_there:
        shutil.rmtree(part, ignore_errors=True)
    else:
        os.makedirs(part, exist_ok=True)
    json.dump({"is_there": is_there, "part": inventory(part), "rsync": bool(shutil.which("rsync"))}, sys.stdout)


def publish(root, name):  # type: ignore[no-untyped-def]
    """Hold the hidden folder to the hashes that come by standard input, and give it the final name."""
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
    try:
        {"begin": begin, "publish": publish}[sys.argv[1]](*sys.argv[2:])
    except OSError as error:
        sys.exit(str(error.filename) + ": " + str(error.strerror))
