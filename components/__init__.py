"""The resources of a Dask cluster on Docker Swarm: one noun, one file."""
