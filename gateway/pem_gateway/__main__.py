"""`python -m pem_gateway`: the command line."""

import os
import signal

INTERRUPTED = 130
# Until something was started a Ctrl-C has nothing to clean up, and in the middle of an import
# KeyboardInterrupt becomes whatever the imported module makes of it.
if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, lambda *_: os._exit(INTERRUPTED))

from pem_gateway.cli import main  # noqa: E402

raise SystemExit(main())
