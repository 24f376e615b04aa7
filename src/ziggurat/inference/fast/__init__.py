"""The same numbers sooner: what a model that no longer learns can leave out and lay out anew."""
