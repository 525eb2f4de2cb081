"""What tests/fuzz.py damages, how, and whom it believes."""
