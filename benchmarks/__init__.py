"""What is measured: worlds to measure in, and what they were measured with. Not part of a server."""
