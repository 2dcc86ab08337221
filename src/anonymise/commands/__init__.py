"""One command a file; ``anonymise NAME`` and ``python -m script.NAME`` both end here."""
