"""Anything on disk: written whole or not at all, known by digest, read strictly; the hub as folders."""
