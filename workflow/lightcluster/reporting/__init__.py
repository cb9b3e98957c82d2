"""Contact sheets, figures, the gallery, and the report page with the scores."""
