"""Operations on batches of points, in torch and scipy, without compiled extensions."""
