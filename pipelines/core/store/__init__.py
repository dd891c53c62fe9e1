"""MLflow: runs, registered versions and their manifests, and running a version with the code that it carries.

It does not know whether a version deserves to be promoted.
"""
