"""Read foreign weights safely, write and read our own."""
