"""`python -m pem_server`: the command line."""

from pem_server.cli import main

raise SystemExit(main())
