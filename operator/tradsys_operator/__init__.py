"""The operator of tradsys venues."""
