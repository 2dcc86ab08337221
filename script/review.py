"""``python -m script.review`` runs ``anonymise.commands.review``."""

import sys

from anonymise.commands.review import main

if __name__ == "__main__":
    sys.exit(main())
