"""Review by people: what was hidden and what was missed in a folder of published pictures.

`pictures` knows the pictures of an output folder and how doubtful each is, `views` makes them small and finds outlines,
`sheet` writes them as pages that need no server.
"""
