"""What happens, by noun, and who may. Knows no GraphQL, no web and no SQL."""
