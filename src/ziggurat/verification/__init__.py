"""Whether a weight file is what it claims to be: certificates, and golden values."""
