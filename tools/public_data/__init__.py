"""Convert public data sets to the layouts of the shipped configs."""
