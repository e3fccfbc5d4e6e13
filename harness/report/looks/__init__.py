"""What a sweep shows of the encoders it learned and of the images it picked."""
