"""Pairs of pictures: their list, what describes them, and which style suits a photo."""
