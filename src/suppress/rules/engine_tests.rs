//! The engine against plain cases and a model.
