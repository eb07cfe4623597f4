"""Govern: what governance decides of the mesh, as pure functions over declarations."""
