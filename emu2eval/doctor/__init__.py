"""What is installed, which data is there, and whether reference runs still come out the same."""
