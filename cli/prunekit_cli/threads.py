"""How the threads of a training wait for each other."""

import os


def wait_patiently() -> None:
    """Let idle OpenMP threads sleep instead of spinning; a user's own OMP_WAIT_POLICY stays.

    Where another process wants a core too, spinning threads hold up the one they wait for. Works only before torch is
    imported.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
