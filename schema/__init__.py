"""What may be asked, by GraphQL kind, and how it is carried. Knows no SQL."""
