"""What Understudy's speed and memory are compared with: `make bench`."""
