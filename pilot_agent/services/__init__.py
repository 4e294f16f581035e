"""Services: programs that run beside the jobs, started one by one and waited for until they are ready."""
