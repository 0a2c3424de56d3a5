"""What is kept: tables, queries, migrations. The only SQL; knows nothing of the other rooms."""
