"""The DAG: a folder is a stage."""
