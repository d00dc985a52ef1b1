"""What training is shown: photos, artworks, and crops of both."""
