"""Delivers the front's text to a Caddy that is already there; knows nothing of Pulumi or Dask."""
