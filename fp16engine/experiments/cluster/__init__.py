"""Many runs on a cluster: a sweep is packed into jobs, which submitit starts; results are merged from files."""
