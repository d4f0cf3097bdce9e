"""Plumbing: settings, files, console, Ray."""
