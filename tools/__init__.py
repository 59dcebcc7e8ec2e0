"""Scripts, run by hand now and then, that write files of the packages and tables of docs/."""
