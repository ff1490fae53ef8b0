"""Measures of masks against masks, and what differences over cases are worth."""
