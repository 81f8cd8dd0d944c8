"""`python -m pem_loadtest`: the load test, or `crosscheck` with another load generator."""

from .cli import main

raise SystemExit(main())
