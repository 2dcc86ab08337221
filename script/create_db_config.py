"""``python -m script.create_db_config`` runs ``anonymise.commands.create_db_config``."""

import sys

from anonymise.commands.create_db_config import main

if __name__ == "__main__":
    sys.exit(main())
