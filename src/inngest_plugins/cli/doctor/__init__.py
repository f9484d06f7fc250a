"""What the doctor examines: the stack, the client, installed plugins, health checks."""
