"""What happened: the outcome log that serving writes and learning reads. Pure: files only."""
