"""What `make ab` turns on and off; each module is a group of knobs."""
