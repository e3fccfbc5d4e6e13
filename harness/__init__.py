"""selbench's machine: configuration, scheduling, protocol and records. It knows no method by name."""
