"""The tests; `tests.harness` and `tests.engines` are what they stand on."""
