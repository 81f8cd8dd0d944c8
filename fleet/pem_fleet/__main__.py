"""python -m pem_fleet simulate|fleet-test"""

from pem_fleet.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
