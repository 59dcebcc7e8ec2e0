"""What is run by hand, now and then: it writes files that the packages hold."""
