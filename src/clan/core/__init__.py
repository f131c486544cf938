"""What every room stands on: errors, files, YAML, text output, the runtime, devices and ranks."""
