"""What a run is: typed settings, config files, command lines."""
