"""Views of windows: crops, spatial and intensity augmentation, masks; batched on the device."""
