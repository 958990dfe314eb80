"""Images and the frames of videos: opened safely, upright, with a digest; and the files that hold them."""
