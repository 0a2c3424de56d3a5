"""How news travels: bus, stream, feed. Knows no table and no feature."""
