"""Numbers that the fields report; know no model."""
