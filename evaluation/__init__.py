"""Is it useful, is it safe, who says so."""
