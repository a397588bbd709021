"""What the catalogs of right and wrong implementations share."""
