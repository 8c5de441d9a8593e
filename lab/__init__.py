"""A real three-node Docker Swarm on one Linux machine, for trying out and for tests."""
