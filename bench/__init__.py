"""Side-by-side measurements of deployments, as ratios within one run."""
