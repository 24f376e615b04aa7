"""Training on Lightning, which nothing else imports."""
