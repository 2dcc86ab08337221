"""One module for each vendor of metadata; ``metadata.registry`` lists them in order of trust."""
