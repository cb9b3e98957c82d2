"""Names that a person gives to clusters, and that stay when the clusters change."""
