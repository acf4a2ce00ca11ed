"""From an image, a DICOM file or a folder of them to what the networks of a release say of each.

NumPy, Pillow and ONNX Runtime; no torch. Nothing here is a diagnosis.
"""
