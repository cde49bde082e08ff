"""Where independent jobs run: in this process, in others, in a group, on Ray."""
