"""Tiny real vision-language models to route between, and the questions they are asked."""
