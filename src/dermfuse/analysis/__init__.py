"""From an image, a DICOM file or a folder of them to what the networks say of each."""
