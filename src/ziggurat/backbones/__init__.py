"""Image to feature maps; one file a family."""
