"""The trainer: artworks to generators."""
