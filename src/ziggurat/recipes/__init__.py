"""One flat YAML file for each published training run."""
