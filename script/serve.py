"""``python -m script.serve`` runs ``anonymise.commands.serve``."""

import sys

from anonymise.commands.serve import main

if __name__ == "__main__":
    sys.exit(main())
