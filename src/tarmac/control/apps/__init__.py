"""Apps: their versions, replicas and addresses, and the deployments that put them there."""
