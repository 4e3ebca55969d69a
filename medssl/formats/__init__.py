"""Readers and writers of scans: NIfTI, DICOM series, MetaImage, NRRD and arrays, all to one Scan."""
