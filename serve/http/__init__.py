"""The service over HTTP: JSON in; arrays, pictures and event streams out."""
