"""DNS records of cluster objects; pure."""
