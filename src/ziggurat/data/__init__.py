"""Images and annotations from files to batches; knows no model."""
