"""One class a task, composed of backbone, neck and head."""
