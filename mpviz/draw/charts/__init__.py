"""Bars and strips: how much a rank holds, which part of each parameter it owns, what hides what."""
