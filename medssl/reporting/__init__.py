"""One offline HTML report of runs and scores."""
