"""What every benchmark shares: targets, paired samples, JSON lines. See bench/README.md."""
