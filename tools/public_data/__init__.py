"""Public data sets: from their own layouts to those of the configs."""
