"""The Caddyfile in fragments, and how it gets to an existing or a managed Caddy.

caddyfile.py    fills the fragments with the values of a stack
install.py      installs the result as one file of an existing Caddy and reloads it
reloader.sh     loads the result into a managed Caddy
"""
