"""``python -m script.check_images`` runs ``anonymise.commands.check_images``."""

import sys

from anonymise.commands.check_images import main

if __name__ == "__main__":
    sys.exit(main())
