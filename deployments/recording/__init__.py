"""What happened goes to the outcome log, off the request path."""
