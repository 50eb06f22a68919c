"""Studies: measurements that each answer one question about models; each file names its own."""
