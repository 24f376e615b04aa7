"""The same numbers sooner: models that predict or learn without what these jobs can leave out."""
