"""One module a revision, in the order of `down_revision`; a released revision is never edited."""
