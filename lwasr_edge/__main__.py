"""`python -m lwasr_edge` runs the `lwasr` command."""

import sys

from lwasr_edge.cli import main

if __name__ == "__main__":
    sys.exit(main())
