"""Candidates are asked a set of questions, and the answers are labelled."""
