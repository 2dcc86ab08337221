"""Review by people: what was hidden and what was missed in a folder of published pictures.

- `pictures`: the pictures of an output folder, and how doubtful each is; `views` makes them small and finds outlines.
- `sheet`: a contact sheet, pages that need no server.
- `queue`: which picture comes next, and who has which; `items`: what is shown of one.
- `decisions`: what was decided, in the store of corrections; `numbers` and `export` of that.
- `review`: what reviewers do, as functions; `access`: who may; `drawing`: draws corrections now.
- `app`: all that over HTTP; `page` is the page in the browser.
"""
