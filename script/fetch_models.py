"""``python -m script.fetch_models`` runs ``anonymise.commands.fetch_models``."""

import sys

from anonymise.commands.fetch_models import main

if __name__ == "__main__":
    sys.exit(main())
