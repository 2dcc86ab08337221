"""What the documents quote, runnable by anyone: ``python -m benchmarks.NAME`` from the root of the checkout."""
