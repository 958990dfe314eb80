"""The report of a results folder, served to this machine alone while runs go on."""
