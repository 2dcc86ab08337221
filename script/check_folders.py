"""``python -m script.check_folders`` runs ``anonymise.commands.check_folders``."""

import sys

from anonymise.commands.check_folders import main

if __name__ == "__main__":
    sys.exit(main())
