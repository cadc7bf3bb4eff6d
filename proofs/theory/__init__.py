"""What is known exactly: laws, orders and flows of a Gaussian mixture, and of training points."""
