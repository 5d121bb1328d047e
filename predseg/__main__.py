"""``python -m predseg`` is ``predseg``."""

from predseg.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
