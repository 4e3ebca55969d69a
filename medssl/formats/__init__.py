"""Readers and writers of scans: NIfTI, DICOM series, MetaImage, NRRD and arrays, all to one Scan."""

from medssl.formats.reading import read, read_header
from medssl.formats.scan import Scan, ScanHeader
from medssl.formats.table import format_of, is_dicom_name, is_scan_name

__all__ = ["Scan", "ScanHeader", "format_of", "is_dicom_name", "is_scan_name", "read", "read_header"]
