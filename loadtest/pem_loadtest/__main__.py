"""`python -m pem_loadtest`: the load test."""

from .cli import main

raise SystemExit(main())
