"""`python -m ziggurat`, which `torchrun -m ziggurat` needs."""

import sys

from ziggurat.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
