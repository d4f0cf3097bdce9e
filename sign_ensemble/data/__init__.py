"""Images to arrays: manifest, frozen features, views, self-made and strange images."""
