"""Where independent jobs are done: here, in processes, in a group, on Ray."""
