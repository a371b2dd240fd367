"""What `make docs` writes: the pages and pictures of `docs/` that follow from the code.

Belongs here: turning declarations into Markdown and drawings into SVG. Does not belong here: anything that the product
needs when it runs.
"""
