"""``python -m script.json_to_db`` runs ``anonymise.commands.json_to_db``."""

import sys

from anonymise.commands.json_to_db import main

if __name__ == "__main__":
    sys.exit(main())
