"""Images from anywhere to files and pixels."""
