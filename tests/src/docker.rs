//! A Docker engine, where one runs.
