"""Short programs that use tunnelkit; the tests run them."""
