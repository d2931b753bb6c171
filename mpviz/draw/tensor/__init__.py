"""Matrices and blocks cut over tensor-parallel ranks, from their boxes to whole figures."""
