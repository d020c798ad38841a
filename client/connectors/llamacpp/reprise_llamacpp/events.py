"""Lines that say what happens: the time, who says it, and one sentence. For the programs here."""

from __future__ import annotations

import logging
import sys
from typing import TextIO

_ROLE_COLUMNS = 8


def announce(role: str, stream: TextIO = sys.stderr) -> logging.Logger:
    """The logger of a program's own events, written to `stream` as they happen.

    What the connector says appears beside them after "reprise:", so that it cannot be missed.
    """
    own = logging.getLogger(f"reprise.events.{role}")
    for logger, source in (
        (own, ""),
        (logging.getLogger("reprise"), "reprise: "),
        (logging.getLogger("reprise.llamacpp"), "llama.cpp: "),
    ):
        handler = logging.StreamHandler(stream)
        handler.setFormatter(
            logging.Formatter(
                f"%(asctime)s.%(msecs)03d  {role:<{_ROLE_COLUMNS}} {source}%(message)s", "%H:%M:%S"
            )
        )
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
        logger.propagate = False
    return own
