"""Parts of the contrastive family: what may be set beside one core, `medssl.objectives.infonce`."""
