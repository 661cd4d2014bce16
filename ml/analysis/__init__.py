"""What numbers say: arrays in, numbers and tables out."""
