"""Many runs on a cluster: a sweep is packed into jobs that submitit starts; their files are merged."""
