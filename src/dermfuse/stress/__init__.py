"""What an analysis does when the image is disturbed: how far scores and masks move."""
