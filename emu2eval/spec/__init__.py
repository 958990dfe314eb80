"""YAML files to checked specs, and where the shipped ones are."""
