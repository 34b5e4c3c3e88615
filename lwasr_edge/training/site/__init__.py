"""`lwasr-train site`: from a folder of a site's recordings to a model of its own."""
