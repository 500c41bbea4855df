"""What several stages share; never imports a stage."""
