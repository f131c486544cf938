"""What a run's networks are like inside, snapshot by snapshot: discrepancy, heads, discriminators and features."""
