"""What a Caddy is given: the fragments in this folder, and how they get to a Caddy that exists.

caddyfile.py    the fragments with the values of a stack
install.py      writes the result into the container of an existing Caddy and reloads it
reloader.sh     reloads a managed Caddy
"""
