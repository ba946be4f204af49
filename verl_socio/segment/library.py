"""How sam2 is imported: without leaving a trace in the process."""

import sys

from verl_socio.torchvision_cpu import make_importable


def import_sam2() -> None:
    """Import sam2; call it before any `from sam2 import ...`.

    sam2 needs torchvision, and on import it initialises Hydra's one global state for its own configurations, after
    which a program's own `hydra.main` or `hydra.initialize` raises. Nothing here composes through Hydra, so that state
    is cleared again.
    """
    if "sam2" in sys.modules:
        return
    make_importable()
    from hydra.core.global_hydra import GlobalHydra

    in_use = GlobalHydra.instance().is_initialized()
    import sam2  # noqa: F401

    if not in_use:
        GlobalHydra.instance().clear()
