"""Client libraries as people use them, each as a small project that runs against a live server."""
