"""``python -m script.execute_sql`` runs ``anonymise.commands.execute_sql``."""

import sys

from anonymise.commands.execute_sql import main

if __name__ == "__main__":
    sys.exit(main())
