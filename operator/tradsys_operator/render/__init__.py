"""Functions from a Venue to Kubernetes objects: no client, no clock, no state."""
