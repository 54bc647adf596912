"""Where work leaves the engine: handlers, and the runner that does in the background what waits to be done."""
