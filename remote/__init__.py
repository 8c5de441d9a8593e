"""The way to a manager's Docker engine, also where it is behind `ssh://`."""
