"""k-means and the three levels of clustering: dataset, category (superclass) and image."""
